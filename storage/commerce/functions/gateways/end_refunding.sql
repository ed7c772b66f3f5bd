-- What becomes of a payment whose refund at the gateway has ended; it is locked, and so is what moved. Returns the time.
CREATE FUNCTION end_refunding(v_intent intents, p_step smallint, p_at_us bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v payments%ROWTYPE;
BEGIN
    SELECT p.* INTO STRICT v FROM payments p WHERE p.payment_id = v_intent.payment_id;
    v.version := v.version + 1;
    v.moved_us := greatest(p_at_us, v.moved_us);
    IF p_step = ${PaymentStep.REFUND_CONFIRMED} THEN
        v.state := ${PaymentState.REFUNDED};
        v.refunded := v.refunded + v_intent.amount;
        v.fee_returned := v.fee_returned + v_intent.fee;
    ELSE
        v.state := ${PaymentState.REFUND_FAILED};
    END IF;
    UPDATE payments SET version = v.version, state = v.state, refunded = v.refunded, fee_returned = v.fee_returned,
        moved_us = v.moved_us WHERE payment_id = v.payment_id;
    PERFORM note_version(v, p_step, '${NIL}');
    RETURN v.moved_us;
END $$;
