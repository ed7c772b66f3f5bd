-- What becomes of a payment whose refund at the gateway has ended; it is locked, and so is what moved. Returns the time.
--
-- If a bank took the money back meanwhile it stays disputed. What the payer then has from both, they owe to the payee.
CREATE FUNCTION end_refunding(v_intent intents, p_step smallint, p_at_us bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v payments%ROWTYPE;
    v_disputed boolean;
    v_twice bigint := 0;
    v_locked record;
BEGIN
    SELECT p.* INTO STRICT v FROM payments p WHERE p.payment_id = v_intent.payment_id;
    v_disputed := v.state = ${PaymentState.DISPUTED};
    v.version := v.version + 1;
    v.moved_us := greatest(p_at_us, v.moved_us);
    IF p_step = ${PaymentStep.REFUND_CONFIRMED} THEN
        v.state := ${PaymentState.REFUNDED};
        v.refunded := v.refunded + v_intent.amount;
        v.fee_returned := v.fee_returned + v_intent.fee;
    ELSE
        v.state := ${PaymentState.REFUND_FAILED};
    END IF;
    v_twice := greatest(v.disputed - (v.captured - v.refunded), 0);
    IF v_twice > 0 THEN
        SELECT greatest(t.at_us, v.moved_us) INTO v.moved_us
        FROM take_or_owe(${TransferReason.CHARGEBACK_RETURNED}::smallint, v.payment_id, v.from_id, v.to_id, v_twice) t;
        v_locked := lock_accounts(
            ARRAY[v.to_id, account_of(v.tenant_id, v.payee_id, v.currency, ${Purpose.RECEIVABLE}::smallint)],
            ARRAY[true, true]);
        IF v.to_id = ANY (v_locked.in_debt) THEN
            PERFORM settle_debt(v_locked.at_us, v.currency, v.payment_id, v.to_id, v_locked.slot[1]);
        END IF;
        v.disputed := v.disputed - v_twice;
    END IF;
    IF v_disputed AND v.disputed > 0 THEN
        v.state := ${PaymentState.DISPUTED};
    END IF;
    UPDATE payments SET version = v.version, state = v.state, disputed = v.disputed, refunded = v.refunded, fee_returned = v.fee_returned,
        moved_us = v.moved_us WHERE payment_id = v.payment_id;
    PERFORM note_version(v, p_step, '${NIL}');
    RETURN v.moved_us;
END $$;
