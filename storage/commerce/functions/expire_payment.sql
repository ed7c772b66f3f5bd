-- Expire a payment that is due; true if this call did. Who reads a due payment calls it first, so that nothing that was told
-- is undone by a clock that steps back.
CREATE FUNCTION expire_payment(p_payment uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v payments%ROWTYPE;
    v_outcome smallint;
    v_now_us bigint;
BEGIN
    IF NOT books_serve() THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(${PERIOD_LOCKS}, 0);
    SELECT p.* INTO v FROM payments p WHERE p.payment_id = p_payment FOR NO KEY UPDATE;
    v_now_us := clock_us();
    IF v.payment_id IS NULL OR v_now_us < v.expires_us THEN
        RETURN false;
    ELSIF v.state = ${PaymentState.REQUESTED} THEN
        PERFORM end_request(v, ${PaymentStep.EXPIRE}::smallint, '${NIL}', v_now_us);
        RETURN true;
    ELSIF v.state = ${PaymentState.HELD} THEN
        SELECT e.outcome INTO v_outcome FROM end_hold(v, ${PaymentStep.EXPIRE}::smallint, 0, '${NIL}', true) e;
        RETURN v_outcome = ${StepOutcome.EXPIRED};
    END IF;
    RETURN false;
END $$;
