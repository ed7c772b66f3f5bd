-- Apply one effect of an object of a gateway, once. `p_change` is what the gateway owes us more; `p_intent` the reference of
-- the object, if it is one of ours, `p_parent` of a chargeback the object that was paid.
--
-- Money of exactly what was asked for, while it may still come, moves what it was asked for, if its wallet is not closed. All
-- other goes to suspense. A top-up whose money went there has failed: its charge brings no other. A withdrawal that was paid
-- with another amount has ended: its payout takes no more. What was taken beyond may come back with it.
CREATE FUNCTION apply_effect(
    p_key uuid, p_body bytea, p_tenant smallint, p_gateway text, p_object text, p_effect smallint, p_change bigint,
    p_currency text, p_intent uuid, p_parent text
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v_clearing uuid := account_of(p_tenant, gateway_owner(p_gateway), p_currency, ${Purpose.CLEARING}::smallint);
    v_kind int := step_of_effect(p_effect) / 100;
    v_step smallint := step_of_effect(p_effect) % 100;
    v intents%ROWTYPE;
    v_fits boolean;
    v_reason text;
    v_used smallint := ${EffectUse.INTENT};
    v_at_us bigint := clock_us();
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    IF v_kind IS NULL AND (p_change <> 0 OR p_effect = ${EffectKind.CHARGEBACK_LOST}) THEN
        SELECT c.at_us, c.used, c.intent INTO v_at_us, v_used, p_intent FROM charge_back(
            p_key, p_body, p_tenant, p_gateway, p_object, p_effect, p_change, p_currency, p_parent, v_clearing) c;
    ELSE
        v := lock_intent(p_tenant, p_gateway, p_intent);
        p_intent := v.intent_id;
        v_fits := v.kind = v_kind AND next_intent_state(v.state, v_step) IS NOT NULL AND v.currency = p_currency
                  AND abs(p_change) IN (v.amount, 0);
        IF v_step = ${IntentStep.FAIL} AND v_fits THEN
            v_at_us := fail_intent(v, NULL);
        ELSIF p_change = 0 THEN
            v_used := ${EffectUse.NOTHING};
            UPDATE intents SET state = next_intent_state(state, v_step), moved_us = v_at_us, due_us = NULL
            WHERE intent_id = p_intent AND v_fits AND v_step = ${IntentStep.EXPIRE};
        ELSIF v_fits AND v.kind = ${IntentKind.TOP_UP} THEN
            SELECT c.at_us INTO v_at_us FROM credit_top_up(v, v_clearing, p_object, p_key, p_body) c;
        ELSIF v_fits AND v_step = ${IntentStep.PAY} THEN
            v_at_us := pay_from_hold(v, v_clearing);
        ELSIF v_fits AND v.kind = ${IntentKind.WITHDRAWAL} THEN
            v_at_us := return_payout(v, v_clearing);
        ELSIF v.kind = ${IntentKind.WITHDRAWAL} AND p_effect = ${EffectKind.PAYOUT_PAID} AND v.currency = p_currency
              AND next_intent_state(v.state, v_step) IS NOT NULL THEN
            v_at_us := pay_otherwise(v, p_object, p_effect, -p_change, v_clearing);
        ELSIF v.kind = ${IntentKind.WITHDRAWAL} AND p_effect = ${EffectKind.PAYOUT_RETURNED} AND v.currency = p_currency
              AND next_intent_state(v.state, v_step) IS NOT NULL AND p_change > v.amount
              AND EXISTS (SELECT FROM gateway_effects e WHERE e.gateway = p_gateway AND e.object_id = p_object
                          AND e.effect = ${EffectKind.PAYOUT_PAID} AND e.change = -p_change
                          AND e.used = ${EffectUse.INTENT}) THEN
            v_at_us := return_payout(v, v_clearing);
            PERFORM suspend_money(p_tenant, p_gateway, p_object, p_effect, p_change - v.amount, p_currency, p_intent, v_clearing)
            WHERE v_at_us IS NOT NULL;
        ELSE
            v_at_us := NULL;
        END IF;
        IF v_at_us IS NULL THEN
            v_used := ${EffectUse.SUSPENSE};
            v_at_us := suspend_money(p_tenant, p_gateway, p_object, p_effect, p_change, p_currency, p_intent, v_clearing);
            IF v_fits AND v.kind = ${IntentKind.TOP_UP} THEN
                v_step := ${IntentStep.FAIL};
                v_reason := 'the wallet is closed';
            ELSIF v.kind = v_kind AND v.kind = ${IntentKind.TOP_UP}
                  AND (p_effect = ${EffectKind.CHARGE_PAID} OR p_change > v.amount) THEN
                v_fits := true;
                v_step := ${IntentStep.FAIL};
                v_reason := 'the charge was paid with another amount';
            END IF;
            UPDATE intents SET state = next_intent_state(state, v_step), moved_us = v_at_us, reason = coalesce(v_reason, reason),
                token = CASE WHEN v_reason IS NULL THEN token END, due_us = CASE WHEN v_reason IS NULL THEN due_us END
            WHERE intent_id = p_intent AND v_fits AND next_intent_state(state, v_step) IS NOT NULL;
        END IF;
    END IF;
    INSERT INTO gateway_effects (gateway, object_id, effect, tenant_id, intent_id, currency, change, used, at_us)
    VALUES (p_gateway, p_object, p_effect, p_tenant, p_intent, p_currency, p_change, v_used, v_at_us);
    RETURN close_step(p_key, p_body, v_at_us, ${StepOutcome.DONE}::smallint, p_intent, NULL, v_used);
END $$;
