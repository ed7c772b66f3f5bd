-- A charge that paid for this was taken back (`p_step` DISPUTE: `p_amount` leaves the payee, who may owe it then), or the
-- dispute was won (DISPUTE_WON: it returns) or lost (DISPUTE_LOST: it stays away, no fee returns, and the payment is refunded:
-- `disputed` stays, and is neither refunded nor disputed again). `p_clearing` is the account of the gateway.
CREATE FUNCTION dispute_payment(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_payment uuid, p_step smallint, p_clearing uuid, p_amount bigint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v payments%ROWTYPE;
    v_locked record;
    v_debt bigint;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT p.* INTO v FROM payments p WHERE p.payment_id = p_payment AND p.tenant_id = p_tenant FOR NO KEY UPDATE;
    IF NOT FOUND OR NOT EXISTS (SELECT FROM accounts a WHERE a.account_id = p_clearing AND a.slot = 0
                                AND a.tenant_id = p_tenant AND a.currency = v.currency) THEN
        RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.NOT_FOUND}::smallint, NULL, NULL, NULL);
    ELSIF p_step = ${PaymentStep.DISPUTE}
          AND (v.disputed > 0
               OR v.state NOT IN (${PaymentState.PAID}, ${PaymentState.REFUNDING}, ${PaymentState.REFUNDED},
                                   ${PaymentState.REFUND_FAILED}))
          OR p_step <> ${PaymentStep.DISPUTE} AND v.state <> ${PaymentState.DISPUTED} THEN
        RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.STATE}::smallint, p_payment, v.version, NULL);
    ELSIF p_step = ${PaymentStep.DISPUTE} AND (p_amount BETWEEN 1 AND v.captured - v.refunded) IS NOT TRUE THEN
        RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.AMOUNT}::smallint, p_payment, v.version, NULL);
    END IF;
    IF p_step = ${PaymentStep.DISPUTE} THEN
        SELECT t.debt, greatest(t.at_us, v.moved_us) INTO v_debt, v.moved_us
        FROM take_or_owe(${TransferReason.CHARGEBACK}::smallint, p_payment, v.to_id, p_clearing, p_amount) t;
        v.state := ${PaymentState.DISPUTED};
        v.disputed := p_amount;
    ELSIF p_step = ${PaymentStep.DISPUTE_LOST} THEN
        v.moved_us := greatest(clock_us(), v.moved_us);
        v.state := CASE WHEN is_refunding(v) THEN ${PaymentState.REFUNDING} ELSE ${PaymentState.REFUNDED} END;
    ELSE
        v_locked := lock_accounts(
            ARRAY[p_clearing, v.to_id, account_of(p_tenant, v.payee_id, v.currency, ${Purpose.RECEIVABLE}::smallint)],
            ARRAY[false, true, true]);
        v.moved_us := greatest(v_locked.at_us, v.moved_us);
        PERFORM post(v.moved_us, v.currency, ${TransferReason.CHARGEBACK_RETURNED}::smallint, p_payment, NULL,
                     p_clearing, v_locked.slot[1], v.to_id, v_locked.slot[2], v.disputed);
        IF v.to_id = ANY (v_locked.in_debt) THEN
            PERFORM settle_debt(v.moved_us, v.currency, p_payment, v.to_id, v_locked.slot[2]);
        END IF;
        v.state := CASE WHEN is_refunding(v) THEN ${PaymentState.REFUNDING}
                        WHEN v.refunded > 0 THEN ${PaymentState.REFUNDED} ELSE ${PaymentState.PAID} END;
        v.disputed := 0;
    END IF;
    v.version := v.version + 1;
    UPDATE payments SET version = v.version, state = v.state, disputed = v.disputed, moved_us = v.moved_us
    WHERE payment_id = p_payment;
    PERFORM note_version(v, p_step, p_actor);
    RETURN close_step(p_key, p_body, v.moved_us, ${StepOutcome.DONE}::smallint, p_payment, v.version, v_debt);
END $$;
