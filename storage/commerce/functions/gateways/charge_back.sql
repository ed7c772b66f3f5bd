-- A bank took back the money of an object (OPENED), gave it back after all (WON), or keeps it (LOST: nothing moves). It is the
-- payee's affair when the money paid a payment that can be disputed, else that of the wallet that was topped up; what nobody
-- got is in suspense, and what returns when the payment is no longer disputed.
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
        v_answer := dispute_payment(
            nested_key(p_key), p_body, '${NIL}', p_tenant, v.payment_id,
            CASE p_effect WHEN ${EffectKind.CHARGEBACK_WON} THEN ${PaymentStep.DISPUTE_WON}
                          WHEN ${EffectKind.CHARGEBACK_LOST} THEN ${PaymentStep.DISPUTE_LOST}
                          ELSE ${PaymentStep.DISPUTE} END::smallint, p_clearing, abs(p_change));
        at_us := clock_us();
        IF v_answer.outcome = ${StepOutcome.DONE} THEN
            used := ${EffectUse.PAYMENT};
            RETURN;
        END IF;
    END IF;
    IF p_effect = ${EffectKind.CHARGEBACK_LOST} THEN
        used := ${EffectUse.NOTHING};
        at_us := clock_us();
    ELSIF v.intent_id IS NULL OR used = ${EffectUse.PAYMENT} THEN
        used := ${EffectUse.SUSPENSE};
        at_us := suspend_money(p_tenant, p_gateway, p_object, p_effect, p_change, p_currency, NULL, p_clearing);
    ELSIF p_effect = ${EffectKind.CHARGEBACK_OPENED} THEN
        used := ${EffectUse.WALLET};
        SELECT t.at_us INTO at_us FROM take_or_owe(
            ${TransferReason.CHARGEBACK}::smallint, v.intent_id, v.wallet_id, p_clearing, abs(p_change)) t;
    ELSE
        used := ${EffectUse.WALLET};
        SELECT l.* INTO v_locked FROM lock_accounts(
            ARRAY[p_clearing, v.wallet_id, account_of(p_tenant, v.owner_id, p_currency, ${Purpose.RECEIVABLE}::smallint)],
            ARRAY[false, true, true]) l;
        at_us := v_locked.at_us;
        PERFORM post(at_us, p_currency, ${TransferReason.CHARGEBACK_RETURNED}::smallint, v.intent_id, NULL,
                     p_clearing, v_locked.slot[1], v.wallet_id, v_locked.slot[2], p_change);
        IF v.wallet_id = ANY (v_locked.in_debt) THEN
            PERFORM settle_debt(at_us, p_currency, v.intent_id, v.wallet_id, v_locked.slot[2]);
        END IF;
    END IF;
END $$;
