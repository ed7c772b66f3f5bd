-- Order what is in a cart: prices as they are now, stock reserved, the payment requested of the customer, the cart emptied.
--
-- `p_total` is what the customer saw; if it is another now it is CHANGED, and `detail` the total. `detail` of PRODUCT_NOT_FOUND
-- and OUT_OF_STOCK is the line of the cart, from 1. Nothing is written when it is refused. The payment begins under a key of
-- its own, which follows from this one.
--
-- Who has no money reserves, too: so only for ORDER_REQUEST_S_MAX, and with PENDING_ORDERS_MAX orders at a business.
CREATE FUNCTION place_order(
    p_key uuid, p_body bytea, p_customer uuid, p_tenant smallint, p_business uuid, p_order uuid, p_payment uuid, p_dialog uuid,
    p_address uuid, p_shipping uuid, p_currency text, p_total bigint, p_later boolean, p_request_us bigint, p_hold_us bigint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v_lines priced_line[];
    v_judged record;
    v_option shipping_options%ROWTYPE;
    v_at_us bigint;
    v_pending int;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    PERFORM FROM carts c WHERE c.person_id = p_customer AND c.business_id = p_business FOR NO KEY UPDATE;
    v_pending := (SELECT count(*) FROM orders o WHERE o.customer_id = p_customer AND o.business_id = p_business
                                               AND o.state = ${OrderState.PENDING});
    v_lines := ARRAY(SELECT l::priced_line FROM priced_lines(p_customer, p_business) l);
    PERFORM lock_stock(ARRAY(SELECT l.variant_id FROM unnest(v_lines) l WHERE l.tracked));
    SELECT o.* INTO v_option FROM shipping_options o
    WHERE o.option_id = p_shipping AND o.business_id = p_business AND o.status = ${ShopStatus.ACTIVE} AND o.currency = p_currency;
    SELECT j.* INTO v_judged FROM judge_order(p_tenant, p_business, p_currency, v_lines, p_shipping IS NOT NULL, v_option) j;
    IF v_judged.outcome = ${StepOutcome.DONE} AND v_judged.total <> p_total THEN
        v_judged.outcome := ${StepOutcome.CHANGED};
        v_judged.detail := v_judged.total;
    ELSIF v_judged.outcome = ${StepOutcome.DONE} AND v_pending >= ${PENDING_ORDERS_MAX} THEN
        v_judged.outcome := ${StepOutcome.SHOP_BOUND};
    END IF;
    IF v_judged.outcome = ${StepOutcome.DONE} THEN
        v_answer := begin_payment(
            md5(p_key || '/payment')::uuid, p_body, false, p_customer, ${PaymentStep.REQUEST}::smallint, p_tenant, p_payment,
            p_dialog, p_order, p_customer, p_business,
            account_of(p_tenant, p_customer, p_currency, ${Purpose.WALLET}::smallint),
            account_of(p_tenant, p_business, p_currency, ${Purpose.WALLET}::smallint),
            p_currency, p_total, p_later, least(p_request_us, ${ORDER_REQUEST_US_MAX}), p_hold_us, '{}', '{}');
        v_judged.outcome := v_answer.outcome;
    END IF;
    IF v_judged.outcome <> ${StepOutcome.DONE} THEN
        RETURN close_step(p_key, p_body, clock_us(), v_judged.outcome, NULL, NULL, v_judged.detail);
    END IF;
    INSERT INTO order_lines (order_id, line_no, kind, product_id, variant_id, sku, name, variant_name, quantity, unit_price,
                             tax_basis_points, amount, tax, tracked)
    SELECT p_order, l.line_no, ${LineKind.PRODUCT}, l.product_id, l.variant_id, l.sku, l.name, l.variant_name, l.quantity,
           l.unit_price, l.tax_basis_points, l.amount, l.tax, l.tracked FROM unnest(v_lines) l
    UNION ALL
    SELECT p_order, cardinality(v_lines) + 1, ${LineKind.SHIPPING}, NULL, NULL, '', v_option.name, '', 1, v_option.price,
           v_option.tax_basis_points, v_option.price, tax_of(v_option.price, v_option.tax_basis_points), false
    WHERE v_option.option_id IS NOT NULL;
    PERFORM move_order_stock(p_order, ${StockMove.RESERVED}::smallint, p_customer);
    DELETE FROM cart_lines l WHERE l.person_id = p_customer AND l.business_id = p_business;
    INSERT INTO orders (order_id, tenant_id, business_id, customer_id, number, payment_id, dialog_id, address_id, currency,
                        subtotal, tax, shipping, total, state, version, placed_us, moved_us)
    SELECT p_order, p_tenant, p_business, p_customer, next_order_number(p_business), p_payment, p_dialog, p_address, p_currency,
           v_judged.subtotal, v_judged.tax, v_judged.shipping, p_total, ${OrderState.PENDING}, 1, c.now_us, c.now_us
    FROM (SELECT clock_us() AS now_us) c
    RETURNING placed_us INTO v_at_us;
    INSERT INTO order_versions (order_id, version, at_us, event, state, actor_id)
    VALUES (p_order, 1, v_at_us, ${OrderEvent.PLACE}, ${OrderState.PENDING}, p_customer);
    RETURN close_step(p_key, p_body, v_at_us, ${StepOutcome.DONE}::smallint, p_order, 1, NULL);
END $$;
