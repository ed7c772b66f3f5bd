-- A step that the customer (`p_party`) or the staff of the business asks for: PROCESS, SHIP, DELIVER, CANCEL, REFUND.
--
-- CANCEL and REFUND are steps of the payment, which the order follows; SHIP captures first what is held. They happen under
-- a key of their own, which follows from this one. A payment that is due is expired first. AGAIN as in the ledger.
CREATE FUNCTION step_order(
    p_key uuid, p_body bytea, p_all boolean, p_actor uuid, p_tenant smallint, p_order uuid, p_party smallint, p_event smallint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v orders%ROWTYPE;
    v_outcome smallint := ${StepOutcome.DONE};
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT o.* INTO v FROM orders o WHERE o.order_id = p_order AND o.tenant_id = p_tenant;
    IF NOT FOUND THEN
        RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.ORDER_NOT_FOUND}::smallint, NULL, NULL, NULL);
    END IF;
    PERFORM FROM payments p WHERE p.payment_id = v.payment_id FOR NO KEY UPDATE;
    PERFORM expire_payment(v.payment_id);
    SELECT o.* INTO v FROM orders o WHERE o.order_id = p_order;
    IF next_order_state(v.state, p_event) IS NULL THEN
        v_outcome := ${StepOutcome.ORDER_STATE};
    ELSIF NOT is_order_step_of(p_party, v.state, p_event) THEN
        v_outcome := ${StepOutcome.NOT_ALLOWED};
    ELSIF p_event IN (${OrderEvent.CANCEL}, ${OrderEvent.REFUND}, ${OrderEvent.SHIP}) THEN
        v_outcome := move_order_money(md5(p_key || '/money')::uuid, p_body, p_all, p_actor, v.payment_id, p_party, p_event);
    END IF;
    IF v_outcome = ${StepOutcome.AGAIN} THEN
        RETURN (v_outcome, NULL, NULL, NULL)::answer;
    ELSIF v_outcome = ${StepOutcome.DONE} AND p_event IN (${OrderEvent.PROCESS}, ${OrderEvent.SHIP}, ${OrderEvent.DELIVER}) THEN
        PERFORM FROM orders o WHERE o.order_id = p_order FOR NO KEY UPDATE;
        IF p_event = ${OrderEvent.SHIP} THEN
            PERFORM move_order_stock(p_order, ${StockMove.SOLD}::smallint, p_actor);
        END IF;
        PERFORM note_order(p_order, p_event, next_order_state(v.state, p_event), p_actor);
    END IF;
    SELECT o.* INTO v FROM orders o WHERE o.order_id = p_order;
    RETURN close_step(p_key, p_body, v.moved_us, v_outcome, p_order, v.version, NULL);
END $$;
