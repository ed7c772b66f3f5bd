-- The gateway has paid what was held for a withdrawal or a refund. The intent and its payment are locked.
CREATE FUNCTION pay_from_hold(v intents, p_clearing uuid) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_payment payments%ROWTYPE;
    v_locked record;
BEGIN
    SELECT p.* INTO v_payment FROM payments p
    WHERE p.payment_id = v.payment_id AND p.disputed > 0;
    v_locked := lock_accounts(  -- all that `end_refunding` locks, too
        ARRAY[p_clearing, v_payment.from_id, v_payment.to_id,
              account_of(v.tenant_id, v_payment.payer_id, v.currency, ${Purpose.RECEIVABLE}::smallint),
              account_of(v.tenant_id, v_payment.payee_id, v.currency, ${Purpose.RECEIVABLE}::smallint)],
        ARRAY[false, true, true, true, true]);
    v_locked.at_us := greatest(v_locked.at_us, v.moved_us);
    PERFORM post(v_locked.at_us, v.currency,
                 CASE v.kind WHEN ${IntentKind.REFUND} THEN ${TransferReason.REFUND} ELSE ${TransferReason.WITHDRAWAL} END
                     ::smallint,
                 v.intent_id, NULL, v.intent_id, ${HOLD_SLOT}::smallint, p_clearing, v_locked.slot[1], v.amount);
    UPDATE holds SET state = ${HoldState.CAPTURED} WHERE hold_id = v.intent_id;
    UPDATE intents SET state = next_intent_state(state, ${IntentStep.PAY}::smallint), token = NULL, due_us = NULL,
        moved_us = v_locked.at_us WHERE intent_id = v.intent_id;
    IF v.kind = ${IntentKind.REFUND} THEN
        PERFORM end_refunding(v, ${PaymentStep.REFUND_CONFIRMED}::smallint, v_locked.at_us);
    END IF;
    RETURN v_locked.at_us;
END $$;
