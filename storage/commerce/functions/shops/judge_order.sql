-- Whether priced lines can be ordered, and the sums of the order. Their stock is locked. `detail`: the first line that cannot be.
CREATE FUNCTION judge_order(
    p_tenant smallint, p_business uuid, p_currency text, p_lines priced_line[], p_ships boolean, p_option shipping_options,
    OUT outcome smallint, OUT detail bigint, OUT subtotal numeric, OUT tax numeric, OUT shipping numeric, OUT total numeric
)
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    v_status smallint;
    v_ships boolean;
    v_gone int;
    v_missing int;
    v_mixed boolean;
BEGIN
    SELECT b.status INTO v_status FROM businesses b WHERE b.business_id = p_business AND b.tenant_id = p_tenant;
    SELECT sum(l.amount), sum(l.tax), bool_or(l.ships), min(l.line_no) FILTER (WHERE NOT l.active),
           min(l.line_no) FILTER (WHERE l.tracked AND s.available < l.quantity), bool_or(l.currency <> p_currency)
    INTO subtotal, tax, v_ships, v_gone, v_missing, v_mixed
    FROM unnest(p_lines) l
    CROSS JOIN LATERAL (SELECT x.available FROM stock x WHERE x.variant_id = l.variant_id LIMIT 1) s;
    shipping := coalesce(p_option.price, 0);
    tax := tax + tax_of(shipping, coalesce(p_option.tax_basis_points, 0));
    total := subtotal + tax + shipping;
    detail := CASE WHEN v_gone IS NULL THEN v_missing ELSE v_gone END;
    outcome := CASE
        WHEN v_status IS NULL THEN ${StepOutcome.BUSINESS_NOT_FOUND}
        WHEN v_status <> ${ShopStatus.ACTIVE} THEN ${StepOutcome.BUSINESS_CLOSED}
        WHEN total IS NULL THEN ${StepOutcome.CART_EMPTY}
        WHEN v_gone IS NOT NULL THEN ${StepOutcome.PRODUCT_NOT_FOUND}
        WHEN v_mixed THEN ${StepOutcome.CURRENCY}
        WHEN p_ships AND p_option.option_id IS NULL OR v_ships AND NOT p_ships AND EXISTS (
            SELECT FROM shipping_options o WHERE o.business_id = p_business AND o.status = ${ShopStatus.ACTIVE}
                                             AND o.currency = p_currency)
            THEN ${StepOutcome.SHIPPING}
        WHEN v_missing IS NOT NULL THEN ${StepOutcome.OUT_OF_STOCK}
        WHEN total > ${AMOUNT_MINOR_MAX} THEN ${StepOutcome.AMOUNT}
        ELSE ${StepOutcome.DONE} END;
END $$;
