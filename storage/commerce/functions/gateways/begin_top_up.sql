-- Write down that somebody is to be charged; nothing moves. With a payment, what its payer approves: the money pays it when
-- it comes, if that is still possible.
CREATE FUNCTION begin_top_up(
    p_key uuid, p_body bytea, p_tenant smallint, p_intent uuid, p_owner uuid, p_gateway text, p_amount bigint,
    p_currency text, p_method text, p_token text, p_life_s int, p_payment uuid, p_version int, p_payee uuid
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v_wallet uuid := account_of(p_tenant, p_owner, p_currency, ${Purpose.WALLET}::smallint);
    v_payment payments%ROWTYPE;
    v_status smallint;
    v_outcome smallint;
    v_now_us bigint;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT p.* INTO v_payment FROM payments p
    WHERE p.payment_id = p_payment AND p.tenant_id = p_tenant AND p.payer_id = p_owner FOR NO KEY UPDATE;
    PERFORM lock_person(p_owner);  -- an erasure looks for open intents, and closes the wallet
    v_status := (SELECT a.status FROM accounts a WHERE a.account_id = v_wallet AND a.slot = 0);
    v_now_us := clock_us();
    v_outcome := CASE
        WHEN (p_amount BETWEEN 1 AND ${AMOUNT_MINOR_MAX}) IS NOT TRUE THEN ${StepOutcome.AMOUNT}
        WHEN v_status IS NULL THEN ${StepOutcome.WALLET_NOT_FOUND}
        WHEN v_status <> ${AccountStatus.ACTIVE} THEN ${StepOutcome.WALLET_CLOSED}
        WHEN p_payment IS NULL THEN ${StepOutcome.DONE}
        WHEN v_payment.payment_id IS NULL THEN ${StepOutcome.NOT_FOUND}
        WHEN v_payment.state = ${PaymentState.EXPIRED}
             OR v_payment.state = ${PaymentState.REQUESTED} AND v_now_us >= v_payment.expires_us THEN ${StepOutcome.EXPIRED}
        WHEN v_payment.state <> ${PaymentState.REQUESTED} THEN ${StepOutcome.STATE}
        WHEN (v_payment.version, v_payment.amount, v_payment.currency, v_payment.payee_id)
             IS DISTINCT FROM (p_version, p_amount, p_currency, p_payee) THEN ${StepOutcome.CHANGED}
        ELSE ${StepOutcome.DONE} END;
    IF v_outcome = ${StepOutcome.EXPIRED} AND v_payment.state = ${PaymentState.REQUESTED} THEN
        v_payment := end_request(v_payment, ${PaymentStep.EXPIRE}::smallint, p_owner, v_now_us);
    END IF;
    IF v_outcome <> ${StepOutcome.DONE} THEN
        RETURN close_step(p_key, p_body, v_now_us, v_outcome, p_payment, v_payment.version, NULL);
    END IF;
    INSERT INTO intents (intent_id, kind, tenant_id, owner_id, gateway, wallet_id, payment_id, version, payee_id, amount,
                         currency, method, token, life_s, state, written_us, moved_us, due_us, expires_us)
    VALUES (p_intent, ${IntentKind.TOP_UP}, p_tenant, p_owner, p_gateway, v_wallet, p_payment, p_version, p_payee, p_amount,
            p_currency, p_method, p_token, p_life_s, ${IntentState.WRITTEN}, v_now_us, v_now_us, v_now_us,
            v_now_us + p_life_s * 1000000::bigint);
    RETURN close_step(p_key, p_body, v_now_us, v_outcome, p_intent, NULL, NULL);
END $$;
