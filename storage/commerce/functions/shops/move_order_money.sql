-- What a step of an order is to its payment, which the caller has locked: it ends, goes back, or is captured before the
-- order is shipped. The outcome of that step; DONE when there is nothing to do.
CREATE FUNCTION move_order_money(
    p_key uuid, p_body bytea, p_all boolean, p_actor uuid, p_payment uuid, p_party smallint, p_event smallint
) RETURNS smallint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v payments%ROWTYPE;
    v_step smallint;
    v_answer answer;
BEGIN
    SELECT p.* INTO STRICT v FROM payments p WHERE p.payment_id = p_payment;
    IF p_event = ${OrderEvent.SHIP} AND v.state IN (${PaymentState.PAID}, ${PaymentState.REFUNDED}, ${PaymentState.REFUND_FAILED}) THEN
        RETURN ${StepOutcome.DONE};
    ELSIF p_event = ${OrderEvent.SHIP} AND v.state <> ${PaymentState.HELD} THEN
        RETURN ${StepOutcome.STATE};
    END IF;
    v_step := CASE
        WHEN p_event = ${OrderEvent.SHIP} THEN ${PaymentStep.CAPTURE}
        WHEN v.state = ${PaymentState.HELD} THEN ${PaymentStep.VOID}
        WHEN v.state <> ${PaymentState.REQUESTED} THEN ${PaymentStep.REFUND}
        WHEN p_party = ${OrderParty.CUSTOMER} THEN ${PaymentStep.DECLINE}
        ELSE ${PaymentStep.CANCEL} END;
    IF v_step = ${PaymentStep.REFUND} THEN
        v_answer := refund_payment(p_key, p_body, p_all, p_actor, v.tenant_id, p_payment, NULL, NULL);
    ELSE
        v_answer := step_payment(p_key, p_body, p_all, p_actor, v.tenant_id, p_payment, NULL, v_step, NULL);
    END IF;
    RETURN v_answer.outcome;
END $$;
