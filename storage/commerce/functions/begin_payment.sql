-- A new payment: asked for (`p_step` REQUEST: nothing moves), or sent.
CREATE FUNCTION begin_payment(
    p_key uuid, p_body bytea, p_all boolean, p_actor uuid, p_step smallint,
    p_tenant smallint, p_payment uuid, p_dialog uuid, p_order uuid, p_payer uuid, p_payee uuid, p_from uuid, p_to uuid,
    p_currency text, p_amount bigint, p_later boolean, p_request_us bigint, p_hold_us bigint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v payments%ROWTYPE;
    v_outcome smallint;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    v_outcome := CASE WHEN p_amount BETWEEN 1 AND ${AMOUNT_MINOR_MAX}
                      THEN judge_parties(p_tenant, p_currency, p_from, p_payer, p_to, p_payee)
                      ELSE ${StepOutcome.AMOUNT} END;
    IF v_outcome <> ${StepOutcome.DONE} THEN
        RETURN close_step(p_key, p_body, clock_us(), v_outcome, NULL, NULL, NULL);
    END IF;
    v.payment_id := p_payment;
    v.tenant_id := p_tenant;
    v.dialog_id := p_dialog;
    v.order_id := p_order;
    v.payer_id := p_payer;
    v.payee_id := p_payee;
    v.from_id := p_from;
    v.to_id := p_to;
    v.currency := p_currency;
    v.amount := p_amount;
    v.capture_later := p_later;
    v.hold_us := p_hold_us;
    SELECT r.basis_points, r.fixed INTO v.basis_points, v.fixed FROM fee_rule_of(p_tenant, p_payee, p_currency) r;
    v.version := 1;
    v.captured := 0;
    v.fee := 0;
    v.refunded := 0;
    v.fee_returned := 0;
    IF p_step = ${PaymentStep.REQUEST} THEN
        v.moved_us := clock_us();
        v.state := ${PaymentState.REQUESTED};
        v.expires_us := v.moved_us + p_request_us;
    ELSE
        SELECT t.outcome, t.at_us, t.fee INTO v_outcome, v.moved_us, v.fee FROM take_payment(v, p_all) t;
        IF v_outcome = ${StepOutcome.AGAIN} THEN
            RETURN (v_outcome, NULL, NULL, NULL)::answer;
        ELSIF v_outcome <> ${StepOutcome.DONE} THEN
            RETURN close_step(p_key, p_body, v.moved_us, v_outcome, NULL, NULL, NULL);
        END IF;
        v.state := CASE WHEN p_later THEN ${PaymentState.HELD} ELSE ${PaymentState.PAID} END;
        v.captured := CASE WHEN p_later THEN 0 ELSE p_amount END;
        v.expires_us := v.moved_us + p_hold_us;
    END IF;
    INSERT INTO payments SELECT v.*;
    PERFORM note_version(v, p_step, p_actor);
    RETURN close_step(p_key, p_body, v.moved_us, ${StepOutcome.DONE}::smallint, p_payment, 1, NULL);
END $$;
