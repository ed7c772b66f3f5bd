-- The money of a top-up has come: into the wallet, where it settles debts first; and the payment that it was for is approved
-- with it, as its payer asked, if it still can be. The intent and the payment are locked. `at_us` is null, and nothing has
-- moved, if the wallet is closed; the suspense account is locked then.
CREATE FUNCTION credit_top_up(
    v intents, p_clearing uuid, p_object text, p_key uuid, p_body bytea, OUT at_us bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_payment payments%ROWTYPE;
    v_shares uuid[] := '{}';
    v_locked record;
    v_answer answer;
BEGIN
    SELECT p.* INTO v_payment FROM payments p WHERE p.payment_id = v.payment_id;
    IF v.payment_id IS NOT NULL THEN
        PERFORM FROM persons w WHERE w.person_id = v.owner_id FOR NO KEY UPDATE;
        v_shares := share_accounts(v_payment);
    END IF;
    -- All that approving locks, too: locks are taken class by class.
    v_locked := lock_accounts(
        ARRAY[p_clearing, v.wallet_id, account_of(v.tenant_id, v.owner_id, v.currency, ${Purpose.RECEIVABLE}::smallint),
              v_payment.to_id, account_of(v.tenant_id, v_payment.payee_id, v.currency, ${Purpose.RECEIVABLE}::smallint),
              CASE WHEN v.payment_id IS NOT NULL
                   THEN account_of(v.tenant_id, '${NIL}', v.currency, ${Purpose.FEES}::smallint) END,
              account_of(v.tenant_id, gateway_owner(v.gateway), v.currency, ${Purpose.SUSPENSE}::smallint)] || v_shares,
        ARRAY[false, true, true, true, true, false, false] || array_fill(true, ARRAY[cardinality(v_shares)]));
    IF is_closed(v.wallet_id) THEN
        RETURN;
    END IF;
    at_us := v_locked.at_us;
    PERFORM post(at_us, v.currency, ${TransferReason.TOP_UP}::smallint, v.intent_id, NULL,
                 p_clearing, v_locked.slot[1], v.wallet_id, v_locked.slot[2], v.amount);
    IF v.wallet_id = ANY (v_locked.in_debt) THEN
        PERFORM settle_debt(at_us, v.currency, v.intent_id, v.wallet_id, v_locked.slot[2]);
    END IF;
    IF v.payment_id IS NOT NULL THEN
        v_answer := approve_payment(nested_key(p_key), p_body, true, v.owner_id, v.tenant_id, v.payment_id,
                                    v.version, v.amount, v.currency, v.payee_id);
    END IF;
    UPDATE intents SET state = next_intent_state(state, ${IntentStep.PAY}::smallint), money_id = p_object,
        fulfils = v_answer.outcome IS NOT DISTINCT FROM ${StepOutcome.DONE}, token = NULL, due_us = NULL,
        moved_us = credit_top_up.at_us
    WHERE intent_id = v.intent_id;
END $$;
