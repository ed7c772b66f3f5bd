-- An intent ends without money: what was held returns, with the person's use of their limits. The intent and its payment
-- are locked.
CREATE FUNCTION fail_intent(v intents, p_reason text) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_at_us bigint := greatest(clock_us(), v.moved_us);
    v_hold holds%ROWTYPE;
    v_locked record;
BEGIN
    IF v.kind <> ${IntentKind.TOP_UP} THEN
        SELECT h.* INTO STRICT v_hold FROM holds h WHERE h.hold_id = v.intent_id;
        PERFORM FROM persons w WHERE w.person_id = v_hold.person_id FOR NO KEY UPDATE;
        v_locked := lock_accounts(
            ARRAY[v.wallet_id, account_of(v.tenant_id, v.owner_id, v.currency, ${Purpose.RECEIVABLE}::smallint),
                  CASE WHEN v.fee > 0 THEN account_of(v.tenant_id, '${NIL}', v.currency, ${Purpose.FEES}::smallint) END],
            ARRAY[true, true, false]);
        v_at_us := greatest(v_locked.at_us, v.moved_us);
        IF v.amount > v.fee THEN
            PERFORM post(v_at_us, v.currency, ${TransferReason.RETURN}::smallint, v.intent_id, NULL,
                         v.intent_id, ${HOLD_SLOT}::smallint, v.wallet_id, v_locked.slot[1], v.amount - v.fee);
        END IF;
        IF v.fee > 0 THEN
            PERFORM post(v_at_us, v.currency, ${TransferReason.FEE}::smallint, v.intent_id, NULL,
                         v.intent_id, ${HOLD_SLOT}::smallint,
                         account_of(v.tenant_id, '${NIL}', v.currency, ${Purpose.FEES}::smallint), v_locked.slot[3], v.fee);
        END IF;
        IF v.wallet_id = ANY (v_locked.in_debt) THEN
            PERFORM settle_debt(v_at_us, v.currency, v.intent_id, v.wallet_id, v_locked.slot[1]);
        END IF;
        UPDATE holds SET state = ${HoldState.VOIDED} WHERE hold_id = v.intent_id;
        PERFORM add_use(v_hold.person_id, v_hold.day_us, v_hold.month_us, -v_hold.counted);
    END IF;
    UPDATE intents SET state = next_intent_state(state, ${IntentStep.FAIL}::smallint), token = NULL, due_us = NULL,
        reason = coalesce(p_reason, reason), moved_us = v_at_us WHERE intent_id = v.intent_id;
    IF v.kind = ${IntentKind.REFUND} THEN
        PERFORM end_refunding(v, ${PaymentStep.REFUND_REFUSED}::smallint, v_at_us);
    END IF;
    RETURN v_at_us;
END $$;
