-- Take what is to be paid out from a wallet into a hold of its own, and write down that the gateway is to pay it. It counts
-- against the limits of a person, as a payment does.
CREATE FUNCTION begin_withdrawal(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_intent uuid, p_owner uuid, p_gateway text, p_amount bigint,
    p_currency text, p_token text
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v_wallet accounts%ROWTYPE;
    v_locked record;
    v_use record;
    v_counted bigint := 0;
    v_outcome smallint := ${StepOutcome.DONE};
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT a.* INTO v_wallet FROM accounts a
    WHERE a.account_id = account_of(p_tenant, p_owner, p_currency, ${Purpose.WALLET}::smallint) AND a.slot = 0;
    IF NOT FOUND OR (p_amount BETWEEN 1 AND ${AMOUNT_MINOR_MAX}) IS NOT TRUE THEN
        v_outcome := CASE WHEN FOUND THEN ${StepOutcome.AMOUNT} ELSE ${StepOutcome.WALLET_NOT_FOUND} END;
        RETURN close_step(p_key, p_body, clock_us(), v_outcome, NULL, NULL, NULL);
    END IF;
    IF v_wallet.limited THEN
        PERFORM FROM persons w WHERE w.person_id = p_owner FOR NO KEY UPDATE;
    END IF;
    v_locked := lock_accounts(ARRAY[v_wallet.account_id], ARRAY[true]);
    SELECT NULL::bigint AS day_us, NULL::bigint AS month_us, true AS fits INTO v_use;
    IF NOT v_locked.active THEN
        v_outcome := ${StepOutcome.WALLET_CLOSED};
    ELSIF available(v_wallet.account_id) < p_amount THEN
        v_outcome := ${StepOutcome.INSUFFICIENT};
    ELSIF v_wallet.limited THEN
        v_counted := (SELECT least(ceil(p_amount * r.rate), ${BALANCE_MAX} + 1) FROM reference_rates r
                      WHERE r.tenant_id = p_tenant AND r.currency = p_currency);
        IF v_counted IS NULL THEN
            v_outcome := ${StepOutcome.CURRENCY};
        ELSE
            v_use := judge_use(p_owner, v_counted, v_locked.at_us);
            v_outcome := CASE WHEN v_use.fits THEN ${StepOutcome.DONE} ELSE ${StepOutcome.OVER_LIMIT} END;
        END IF;
    END IF;
    IF v_outcome <> ${StepOutcome.DONE} THEN
        RETURN close_step(p_key, p_body, v_locked.at_us, v_outcome, NULL, NULL, NULL);
    END IF;
    PERFORM add_use(p_owner, v_use.day_us, v_use.month_us, v_counted) WHERE v_wallet.limited;
    INSERT INTO holds (hold_id, account_id, slot, currency, amount, balance, state, person_id, counted, day_us, month_us)
    VALUES (p_intent, v_wallet.account_id, v_locked.slot[1], p_currency, p_amount, 0, ${HoldState.OPEN},
            CASE WHEN v_wallet.limited THEN p_owner END, v_counted, v_use.day_us, v_use.month_us);
    PERFORM post(v_locked.at_us, p_currency, ${TransferReason.HOLD}::smallint, p_intent, NULL,
                 v_wallet.account_id, v_locked.slot[1], p_intent, ${HOLD_SLOT}::smallint, p_amount);
    INSERT INTO intents (intent_id, kind, tenant_id, owner_id, gateway, wallet_id, amount, currency, method, token, state,
                         written_us, moved_us, due_us)
    VALUES (p_intent, ${IntentKind.WITHDRAWAL}, p_tenant, p_owner, p_gateway, v_wallet.account_id, p_amount, p_currency,
            'bank', p_token, ${IntentState.WRITTEN}, clock_us(), v_locked.at_us, clock_us());
    PERFORM note_audit(p_tenant, 'begin_withdrawal', p_actor, p_intent,
                       concat_ws(' ', p_owner, p_gateway, p_amount, p_currency));
    RETURN close_step(p_key, p_body, v_locked.at_us, v_outcome, p_intent, NULL, NULL);
END $$;
