-- The payer approves what was asked of them, as they saw it: another version, amount, currency or payee is CHANGED.
CREATE FUNCTION approve_payment(
    p_key uuid, p_body bytea, p_all boolean, p_actor uuid, p_tenant smallint, p_payment uuid,
    p_version int, p_amount bigint, p_currency text, p_payee uuid
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v payments%ROWTYPE;
    v_outcome smallint;
    v_at_us bigint;
    v_now_us bigint;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT p.* INTO v FROM payments p
    WHERE p.payment_id = p_payment AND p.tenant_id = p_tenant AND p.payer_id = p_actor FOR NO KEY UPDATE;
    v_now_us := clock_us();
    IF v.payment_id IS NULL THEN
        RETURN close_step(p_key, p_body, v_now_us, ${StepOutcome.NOT_FOUND}::smallint, NULL, NULL, NULL);
    ELSIF v.state = ${PaymentState.REQUESTED} AND v_now_us >= v.expires_us THEN
        v := end_request(v, ${PaymentStep.EXPIRE}::smallint, p_actor, v_now_us);
        v_outcome := ${StepOutcome.EXPIRED};
    ELSIF v.state <> ${PaymentState.REQUESTED} THEN
        v_outcome := CASE v.state WHEN ${PaymentState.EXPIRED} THEN ${StepOutcome.EXPIRED} ELSE ${StepOutcome.STATE} END;
    ELSIF (v.version, v.amount, v.currency, v.payee_id) IS DISTINCT FROM (p_version, p_amount, p_currency, p_payee) THEN
        v_outcome := ${StepOutcome.CHANGED};
    ELSE
        SELECT t.outcome, t.at_us, t.now_us, t.fee INTO v_outcome, v_at_us, v_now_us, v.fee FROM take_payment(
            v, (SELECT a.limited FROM accounts a WHERE a.account_id = v.from_id AND a.slot = 0), v.expires_us, p_all) t;
        IF v_outcome = ${StepOutcome.EXPIRED} THEN
            v.fee := 0;
            v := end_request(v, ${PaymentStep.EXPIRE}::smallint, p_actor, v_now_us);
        END IF;
    END IF;
    IF v_outcome = ${StepOutcome.AGAIN} THEN
        RETURN (v_outcome, NULL, NULL, NULL)::answer;
    ELSIF v_outcome = ${StepOutcome.DONE} THEN
        v.version := v.version + 1;
        v.moved_us := greatest(v_at_us, v.moved_us);
        v.state := CASE WHEN v.capture_later THEN ${PaymentState.HELD} ELSE ${PaymentState.PAID} END;
        v.captured := CASE WHEN v.capture_later THEN 0 ELSE v.amount END;
        v.expires_us := v_now_us + v.hold_us;
        UPDATE payments SET version = v.version, state = v.state, captured = v.captured, fee = v.fee,
            expires_us = v.expires_us, moved_us = v.moved_us WHERE payment_id = p_payment;
        PERFORM note_version(v, ${PaymentStep.APPROVE}::smallint, p_actor);
    END IF;
    RETURN close_step(p_key, p_body, clock_us(), v_outcome, p_payment, v.version, NULL);
END $$;
