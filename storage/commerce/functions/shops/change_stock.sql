-- Staff count stock: RECEIVED or RETURNED adds, CORRECTED adds or takes. OUT_OF_STOCK: less would be left than nothing. What
-- is reserved counts for STOCK_MAX: it may be released.
CREATE FUNCTION change_stock(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_business uuid, p_variant uuid, p_move smallint, p_change bigint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v stock%ROWTYPE;
    v_outcome smallint;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT s.* INTO v FROM stock s WHERE s.variant_id = p_variant AND s.business_id = p_business FOR NO KEY UPDATE;
    v_outcome := CASE
        WHEN v.variant_id IS NULL THEN ${StepOutcome.PRODUCT_NOT_FOUND}
        WHEN p_move NOT IN (${StockMove.RECEIVED}, ${StockMove.CORRECTED}, ${StockMove.RETURNED})
             OR p_change < 1 AND p_move <> ${StockMove.CORRECTED} OR v.available + v.reserved + p_change > ${STOCK_MAX}
            THEN ${StepOutcome.AMOUNT}
        WHEN v.available + p_change < 0 THEN ${StepOutcome.OUT_OF_STOCK}
        ELSE ${StepOutcome.DONE} END;
    IF v_outcome = ${StepOutcome.DONE} THEN
        UPDATE stock s SET available = s.available + p_change, moved_us = greatest(clock_us(), s.moved_us)
        WHERE s.variant_id = p_variant RETURNING s.* INTO v;
        INSERT INTO stock_movements (variant_id, at_us, move, available_change, reserved_change, available_after,
                                     reserved_after, actor_id)
        VALUES (p_variant, v.moved_us, p_move, p_change, 0, v.available, v.reserved, p_actor);
    END IF;
    RETURN close_step(p_key, p_body, clock_us(), v_outcome, CASE v_outcome WHEN ${StepOutcome.DONE} THEN p_variant END, 1, NULL);
END $$;
