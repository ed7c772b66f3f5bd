-- The order of a payment follows it, in the call that moved the payment, which is locked.
--
-- A payment may name any order: only the one that the order names, too, moves it.
CREATE FUNCTION follow_order(p payments, p_actor uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v orders%ROWTYPE;
    v_event smallint;
BEGIN
    SELECT o.* INTO v FROM orders o WHERE o.order_id = p.order_id AND o.payment_id = p.payment_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    v_event := CASE
        WHEN p.state IN (${PaymentState.HELD}, ${PaymentState.PAID}) THEN ${OrderEvent.PAY}
        WHEN p.state IN (${PaymentState.DECLINED}, ${PaymentState.CANCELLED}, ${PaymentState.EXPIRED}) THEN ${OrderEvent.CANCEL}
        WHEN p.state = ${PaymentState.REFUNDED} AND p.refunded + p.disputed = p.captured THEN
            CASE WHEN next_order_state(v.state, ${OrderEvent.REFUND}::smallint) IS NULL THEN ${OrderEvent.CANCEL}
                 ELSE ${OrderEvent.REFUND} END
        END;
    IF next_order_state(v.state, v_event) IS NULL THEN
        RETURN;
    ELSIF v_event = ${OrderEvent.CANCEL} THEN
        PERFORM move_order_stock(v.order_id, ${StockMove.RELEASED}::smallint, p_actor);
    END IF;
    PERFORM note_order(v.order_id, v_event, next_order_state(v.state, v_event), p_actor);
END $$;
