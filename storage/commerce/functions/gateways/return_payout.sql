-- A payout that was paid came back: to the wallet. The intent is locked. (What was counted against limits stays counted.)
-- Null, and nothing has moved, if the wallet is closed; the suspense account is locked then.
CREATE FUNCTION return_payout(v intents, p_clearing uuid) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_locked record;
BEGIN
    v_locked := lock_accounts(
        ARRAY[p_clearing, v.wallet_id, account_of(v.tenant_id, v.owner_id, v.currency, ${Purpose.RECEIVABLE}::smallint),
              account_of(v.tenant_id, gateway_owner(v.gateway), v.currency, ${Purpose.SUSPENSE}::smallint)],
        ARRAY[false, true, true, false]);
    IF is_closed(v.wallet_id) THEN
        RETURN NULL;
    END IF;
    PERFORM post(v_locked.at_us, v.currency, ${TransferReason.PAYOUT_FAILED}::smallint, v.intent_id, NULL,
                 p_clearing, v_locked.slot[1], v.wallet_id, v_locked.slot[2], v.amount);
    IF v.wallet_id = ANY (v_locked.in_debt) THEN
        PERFORM settle_debt(v_locked.at_us, v.currency, v.intent_id, v.wallet_id, v_locked.slot[2]);
    END IF;
    UPDATE intents SET state = next_intent_state(state, ${IntentStep.RETURN}::smallint), moved_us = v_locked.at_us
    WHERE intent_id = v.intent_id;
    RETURN v_locked.at_us;
END $$;
