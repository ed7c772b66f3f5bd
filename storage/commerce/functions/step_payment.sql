-- A step of a payment that exists: DECLINE, CANCEL, CAPTURE or VOID, by one of its parties or a service of its tenant.
--
-- `p_amount` is what is captured; null: all. Who may take which step is the service's to judge; `p_party`, if not null, must
-- be a party. What is due is expired first.
CREATE FUNCTION step_payment(
    p_key uuid, p_body bytea, p_all boolean, p_actor uuid, p_tenant smallint, p_payment uuid, p_party uuid,
    p_step smallint, p_amount bigint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v payments%ROWTYPE;
    v_ended record;
    v_outcome smallint;
    v_now_us bigint;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT p.* INTO v FROM payments p
    WHERE p.payment_id = p_payment AND p.tenant_id = p_tenant
      AND (p_party IS NULL OR p_party IN (p.payer_id, p.payee_id)) FOR NO KEY UPDATE;
    v_now_us := clock_us();
    IF v.payment_id IS NULL THEN
        RETURN close_step(p_key, p_body, v_now_us, ${StepOutcome.NOT_FOUND}::smallint, NULL, NULL, NULL);
    ELSIF v.state = ${PaymentState.REQUESTED} AND v_now_us >= v.expires_us THEN
        v := end_request(v, ${PaymentStep.EXPIRE}::smallint, p_actor, v_now_us);
        v_outcome := ${StepOutcome.EXPIRED};
    ELSIF v.state = ${PaymentState.REQUESTED} AND p_step IN (${PaymentStep.DECLINE}, ${PaymentStep.CANCEL}) THEN
        v := end_request(v, p_step, p_actor, v_now_us);
        v_outcome := ${StepOutcome.DONE};
    ELSIF v.state = ${PaymentState.HELD} AND p_step IN (${PaymentStep.CAPTURE}, ${PaymentStep.VOID}) THEN
        IF p_amount NOT BETWEEN 1 AND v.amount THEN
            v_outcome := ${StepOutcome.AMOUNT};
        ELSE
            v_ended := end_hold(
                v, p_step, CASE p_step WHEN ${PaymentStep.CAPTURE} THEN coalesce(p_amount, v.amount) ELSE 0 END,
                p_actor, p_all);
            v_outcome := v_ended.outcome;
            v.version := v_ended.version;
        END IF;
    ELSE
        v_outcome := CASE v.state WHEN ${PaymentState.EXPIRED} THEN ${StepOutcome.EXPIRED} ELSE ${StepOutcome.STATE} END;
    END IF;
    IF v_outcome = ${StepOutcome.AGAIN} THEN
        RETURN (v_outcome, NULL, NULL, NULL)::answer;
    END IF;
    RETURN close_step(p_key, p_body, clock_us(), v_outcome, p_payment, v.version, NULL);
END $$;
