-- A bank took back the money of an object (OPENED), gave it back after all (WON), or keeps it (LOST: nothing moves). What the
-- payment that it paid still has is the payee's affair, a hold ends before; the rest is that of the wallet that was topped up;
-- what nobody got is in suspense, and what returns when the dispute of the payment was lost.
CREATE FUNCTION charge_back(
    p_key uuid, p_body bytea, p_tenant smallint, p_gateway text, p_object text, p_effect smallint, p_change bigint,
    p_currency text, p_parent text, p_clearing uuid, OUT at_us bigint, OUT used smallint, OUT intent uuid
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_paid gateway_effects%ROWTYPE;
    v intents%ROWTYPE;
    v_payment payments%ROWTYPE;
    v_won boolean := p_effect = ${EffectKind.CHARGEBACK_WON};
    v_step smallint := CASE WHEN v_won THEN ${PaymentStep.DISPUTE_WON} ELSE ${PaymentStep.DISPUTE} END;
    v_part bigint := 0;
    v_rest bigint;
    v_answer answer;
    v_locked record;
BEGIN
    SELECT e.* INTO v_paid FROM gateway_effects e
    WHERE e.gateway = p_gateway AND e.object_id = p_parent AND e.tenant_id = p_tenant AND e.currency = p_currency
      AND e.effect IN (${EffectKind.CHARGE_PAID}, ${EffectKind.PAYMENT_RECEIVED}) AND e.used = ${EffectUse.INTENT};
    intent := v_paid.intent_id;
    SELECT i.* INTO v FROM intents i WHERE i.intent_id = v_paid.intent_id;
    SELECT e.used INTO used FROM gateway_effects e
    WHERE e.gateway = p_gateway AND e.object_id = p_object AND e.effect = ${EffectKind.CHARGEBACK_OPENED};
    IF v.fulfils AND coalesce(used, ${EffectUse.PAYMENT}) = ${EffectUse.PAYMENT} THEN
        SELECT p.* INTO STRICT v_payment FROM payments p WHERE p.payment_id = v.payment_id FOR NO KEY UPDATE;
    END IF;
    IF p_effect = ${EffectKind.CHARGEBACK_LOST} THEN
        used := ${EffectUse.NOTHING};
        at_us := clock_us();
        IF v_payment.state = ${PaymentState.DISPUTED} THEN
            used := ${EffectUse.PAYMENT};
            PERFORM dispute_payment(nested_key(p_key), p_body, '${NIL}', p_tenant, v.payment_id,
                                    ${PaymentStep.DISPUTE_LOST}::smallint, p_clearing, 0);
        END IF;
        RETURN;
    ELSIF v.intent_id IS NULL
          OR v_won AND v_payment.disputed > 0 AND v_payment.state <> ${PaymentState.DISPUTED} THEN
        used := ${EffectUse.SUSPENSE};
        at_us := suspend_money(p_tenant, p_gateway, p_object, p_effect, p_change, p_currency, NULL, p_clearing);
        RETURN;
    END IF;
    v_locked := lock_charge_back(v, v_payment, p_clearing);
    IF v_payment.state = ${PaymentState.HELD} THEN
        PERFORM end_hold(v_payment, ${PaymentStep.VOID}::smallint, 0, '${NIL}', true);
    ELSIF v_won THEN
        v_part := least(coalesce(v_payment.disputed, 0), p_change);
    ELSIF v_payment.state IN (${PaymentState.PAID}, ${PaymentState.REFUNDED}, ${PaymentState.REFUND_FAILED},
                              ${PaymentState.REFUNDING}) AND v_payment.disputed = 0 THEN
        v_part := least(-p_change, v_payment.captured - v_payment.refunded);
    END IF;
    used := ${EffectUse.WALLET};
    IF v_part > 0 THEN
        v_answer := dispute_payment(nested_key(p_key), p_body, '${NIL}', p_tenant, v.payment_id, v_step, p_clearing, v_part);
        IF v_answer.outcome <> ${StepOutcome.DONE} THEN
            RAISE EXCEPTION 'payment %: its dispute is refused with %', v.payment_id, v_answer.outcome;
        END IF;
        used := ${EffectUse.PAYMENT};
    END IF;
    v_rest := abs(p_change) - v_part;
    at_us := greatest(v_locked.at_us, v_payment.moved_us);
    IF v_rest > 0 AND NOT v_won THEN
        PERFORM take_or_owe(${TransferReason.CHARGEBACK}::smallint, v.intent_id, v.wallet_id, p_clearing, v_rest);
    ELSIF v_rest > 0 AND is_closed(v.wallet_id) THEN
        used := CASE v_part WHEN 0 THEN ${EffectUse.SUSPENSE} ELSE used END;
        at_us := suspend_money(p_tenant, p_gateway, p_object, p_effect, v_rest, p_currency, intent, p_clearing);
    ELSIF v_rest > 0 THEN
        v_locked := lock_charge_back(v, v_payment, p_clearing);  -- the time after what has moved above
        at_us := v_locked.at_us;
        PERFORM post(at_us, p_currency, ${TransferReason.CHARGEBACK_RETURNED}::smallint, v.intent_id, NULL,
                     p_clearing, v_locked.slot[1], v.wallet_id, v_locked.slot[2], v_rest);
        IF v.wallet_id = ANY (v_locked.in_debt) THEN
            PERFORM settle_debt(at_us, p_currency, v.intent_id, v.wallet_id, v_locked.slot[2]);
        END IF;
    END IF;
END $$;
