-- Give back to the card or account that paid: the amount leaves the payee, with the platform's part of the fee, into a hold,
-- and the payment is `refunding` until the gateway has paid it back, or has not.
CREATE FUNCTION begin_gateway_refund(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_payment uuid, p_party uuid, p_amount bigint, p_intent uuid
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v payments%ROWTYPE;
    v_charge intents%ROWTYPE;
    v_outcome smallint := ${StepOutcome.DONE};
    v_amount bigint;
    v_fee bigint;
    v_fees uuid;
    v_locked record;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT p.* INTO v FROM payments p
    WHERE p.payment_id = p_payment AND p.tenant_id = p_tenant AND p.payee_id = p_party FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.NOT_FOUND}::smallint, NULL, NULL, NULL);
    END IF;
    SELECT i.* INTO v_charge FROM intents i WHERE i.payment_id = p_payment AND i.fulfils;
    v_amount := coalesce(p_amount, v.captured - v.refunded - v.disputed);
    IF v_charge.intent_id IS NULL OR v.shared THEN  -- who shares it is asked one by one, in the books
        v_outcome := ${StepOutcome.NO_SOURCE};
    ELSIF v.state NOT IN (${PaymentState.PAID}, ${PaymentState.REFUNDED}, ${PaymentState.REFUND_FAILED}) THEN
        v_outcome := ${StepOutcome.STATE};
    ELSIF v_amount NOT BETWEEN 1 AND v.captured - v.refunded - v.disputed THEN
        v_outcome := ${StepOutcome.AMOUNT};
    END IF;
    IF v_outcome <> ${StepOutcome.DONE} THEN
        RETURN close_step(p_key, p_body, v.moved_us, v_outcome, p_payment, v.version, NULL);
    END IF;
    v_fee := div(v.fee::numeric * (v.refunded + v_amount), v.captured)::bigint - v.fee_returned;
    v_fees := account_of(p_tenant, '${NIL}', v.currency, ${Purpose.FEES}::smallint);
    v_locked := lock_accounts(
        ARRAY[v.to_id, CASE WHEN v_fee > 0 THEN v_fees END], ARRAY[true, false]);
    v.moved_us := greatest(v_locked.at_us, v.moved_us);
    IF available(v.to_id) < v_amount - v_fee THEN
        RETURN close_step(p_key, p_body, v_locked.at_us, ${StepOutcome.INSUFFICIENT}::smallint, p_payment, v.version, NULL);
    END IF;
    INSERT INTO holds (hold_id, account_id, slot, currency, amount, balance, state)
    VALUES (p_intent, v.to_id, v_locked.slot[1], v.currency, v_amount, 0, ${HoldState.OPEN});
    IF v_amount > v_fee THEN
        PERFORM post(v.moved_us, v.currency, ${TransferReason.HOLD}::smallint, p_payment, NULL,
                     v.to_id, v_locked.slot[1], p_intent, ${HOLD_SLOT}::smallint, v_amount - v_fee);
    END IF;
    IF v_fee > 0 THEN
        PERFORM post(v.moved_us, v.currency, ${TransferReason.FEE_RETURNED}::smallint, p_payment, NULL,
                     v_fees, v_locked.slot[2], p_intent, ${HOLD_SLOT}::smallint, v_fee);
    END IF;
    INSERT INTO intents (intent_id, kind, tenant_id, owner_id, gateway, wallet_id, payment_id, amount, fee, currency, method,
                         token, state, written_us, moved_us, due_us)
    VALUES (p_intent, ${IntentKind.REFUND}, p_tenant, v.payee_id, v_charge.gateway, v.to_id, p_payment, v_amount, v_fee,
            v.currency, v_charge.method, v_charge.money_id, ${IntentState.WRITTEN}, clock_us(), v.moved_us, clock_us());
    v.version := v.version + 1;
    v.state := ${PaymentState.REFUNDING};
    UPDATE payments SET version = v.version, state = v.state, moved_us = v.moved_us WHERE payment_id = p_payment;
    PERFORM note_version(v, ${PaymentStep.REFUND_AT_GATEWAY}::smallint, p_actor);
    RETURN close_step(p_key, p_body, v.moved_us, v_outcome, p_payment, v.version, NULL);
END $$;
