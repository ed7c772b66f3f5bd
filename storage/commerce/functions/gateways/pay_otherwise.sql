-- The gateway has paid a withdrawal with another amount, and no more will come: what it took is booked, up to what is held,
-- and the rest returns to the wallet, with that part of the person's use of their limits. What it took beyond is in suspense.
-- The amount of the intent is from now on what was paid of it, and a call that is under way settles nothing. It is locked.
CREATE FUNCTION pay_otherwise(v intents, p_object text, p_effect smallint, p_taken bigint, p_clearing uuid) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_paid bigint := least(p_taken, v.amount);
    v_rest bigint := v.amount - v_paid;
    v_hold holds%ROWTYPE;
    v_locked record;
BEGIN
    SELECT h.* INTO STRICT v_hold FROM holds h WHERE h.hold_id = v.intent_id;
    PERFORM FROM persons w WHERE w.person_id = v_hold.person_id FOR NO KEY UPDATE;
    v_locked := lock_accounts(  -- all that `suspend_money` locks, too
        ARRAY[p_clearing, v.wallet_id, account_of(v.tenant_id, v.owner_id, v.currency, ${Purpose.RECEIVABLE}::smallint),
              account_of(v.tenant_id, gateway_owner(v.gateway), v.currency, ${Purpose.SUSPENSE}::smallint)],
        ARRAY[false, true, true, false]);
    v_locked.at_us := greatest(v_locked.at_us, v.moved_us);
    PERFORM post(v_locked.at_us, v.currency, ${TransferReason.WITHDRAWAL}::smallint, v.intent_id, NULL,
                 v.intent_id, ${HOLD_SLOT}::smallint, p_clearing, v_locked.slot[1], v_paid);
    IF v_rest > 0 THEN
        PERFORM post(v_locked.at_us, v.currency, ${TransferReason.RETURN}::smallint, v.intent_id, NULL,
                     v.intent_id, ${HOLD_SLOT}::smallint, v.wallet_id, v_locked.slot[2], v_rest);
        PERFORM add_use(v_hold.person_id, v_hold.day_us, v_hold.month_us,
                        -div(v_hold.counted::numeric * v_rest, v.amount)::bigint);
        IF v.wallet_id = ANY (v_locked.in_debt) THEN
            PERFORM settle_debt(v_locked.at_us, v.currency, v.intent_id, v.wallet_id, v_locked.slot[2]);
        END IF;
    ELSE
        PERFORM suspend_money(v.tenant_id, v.gateway, p_object, p_effect, v_paid - p_taken, v.currency, v.intent_id, p_clearing);
    END IF;
    UPDATE holds SET state = ${HoldState.CAPTURED} WHERE hold_id = v.intent_id;
    UPDATE intents SET state = next_intent_state(state, ${IntentStep.PAY}::smallint), amount = v_paid, token = NULL,
        due_us = NULL, lease = lease + 1, reason = 'the gateway paid another amount than was asked for', moved_us = v_locked.at_us
    WHERE intent_id = v.intent_id;
    RETURN v_locked.at_us;
END $$;
