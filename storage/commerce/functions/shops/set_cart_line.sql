-- How many of a variant are in a person's cart at its business; 0 takes it out. A cart has CART_LINES_MAX lines at most.
CREATE FUNCTION set_cart_line(
    p_key uuid, p_body bytea, p_person uuid, p_tenant smallint, p_business uuid, p_variant uuid, p_quantity int
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v_outcome smallint := ${StepOutcome.DONE};
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    IF NOT lock_living(p_tenant, p_person) THEN
        v_outcome := ${StepOutcome.PERSON_ERASED};
    ELSIF NOT EXISTS (SELECT FROM businesses b WHERE b.business_id = p_business AND b.tenant_id = p_tenant
                                              AND b.status = ${ShopStatus.ACTIVE}) THEN
        v_outcome := ${StepOutcome.BUSINESS_NOT_FOUND};
    ELSIF p_quantity > 0 AND NOT EXISTS (
        SELECT FROM variants v JOIN products p ON p.product_id = v.product_id
        WHERE v.variant_id = p_variant AND v.business_id = p_business AND v.status = ${ShopStatus.ACTIVE}
          AND p.status = ${ShopStatus.ACTIVE}) THEN
        v_outcome := ${StepOutcome.PRODUCT_NOT_FOUND};
    ELSE
        INSERT INTO carts (person_id, business_id) VALUES (p_person, p_business) ON CONFLICT DO NOTHING;
        PERFORM FROM carts c WHERE c.person_id = p_person AND c.business_id = p_business FOR NO KEY UPDATE;
        IF p_quantity = 0 THEN
            DELETE FROM cart_lines l WHERE l.person_id = p_person AND l.business_id = p_business AND l.variant_id = p_variant;
        ELSIF (SELECT count(*) FROM cart_lines l WHERE l.person_id = p_person AND l.business_id = p_business
                                                   AND l.variant_id <> p_variant) >= ${CART_LINES_MAX} THEN
            v_outcome := ${StepOutcome.SHOP_BOUND};
        ELSE
            INSERT INTO cart_lines (person_id, business_id, variant_id, quantity)
            VALUES (p_person, p_business, p_variant, p_quantity)
            ON CONFLICT (person_id, business_id, variant_id) DO UPDATE SET quantity = p_quantity;
        END IF;
    END IF;
    RETURN close_step(p_key, p_body, clock_us(), v_outcome, CASE v_outcome WHEN ${StepOutcome.DONE} THEN p_business END, 1, NULL);
END $$;
