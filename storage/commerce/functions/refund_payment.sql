-- The payee gives back what they were paid, in full or part; the fee returns in proportion, by the sum of all refunds.
CREATE FUNCTION refund_payment(
    p_key uuid, p_body bytea, p_all boolean, p_actor uuid, p_tenant smallint, p_payment uuid, p_party uuid, p_amount bigint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v payments%ROWTYPE;
    v_fees uuid;
    v_locked record;
    v_outcome smallint := ${StepOutcome.DONE};
    v_amount bigint;
    v_fee bigint;
    v_shares uuid[];
    v_net bigint;
    v_back record;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT p.* INTO v FROM payments p
    WHERE p.payment_id = p_payment AND p.tenant_id = p_tenant AND (p_party IS NULL OR p_party = p.payee_id) FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.NOT_FOUND}::smallint, NULL, NULL, NULL);
    END IF;
    v_amount := coalesce(p_amount, v.captured - v.refunded - v.disputed);
    IF v.state NOT IN (${PaymentState.PAID}, ${PaymentState.REFUNDED}, ${PaymentState.REFUND_FAILED}) THEN
        v_outcome := ${StepOutcome.STATE};
    ELSIF v_amount NOT BETWEEN 1 AND v.captured - v.refunded - v.disputed THEN
        v_outcome := ${StepOutcome.AMOUNT};
    END IF;
    IF v_outcome <> ${StepOutcome.DONE} THEN
        RETURN close_step(p_key, p_body, clock_us(), v_outcome, p_payment, v.version, NULL);
    END IF;
    v_fee := div(v.fee::numeric * (v.refunded + v_amount), v.captured)::bigint - v.fee_returned;
    v_fees := account_of(v.tenant_id, '${NIL}', v.currency, ${Purpose.FEES}::smallint);
    v_shares := CASE WHEN v.shared THEN share_accounts(v) ELSE '{}' END;
    v_locked := lock_accounts(
        ARRAY[v.to_id, CASE WHEN v_fee > 0 THEN v_fees END, v.from_id,
              CASE WHEN p_all THEN account_of(v.tenant_id, v.payer_id, v.currency, ${Purpose.RECEIVABLE}::smallint) END]
        || v_shares,
        ARRAY[true, false, p_all, true] || array_fill(true, ARRAY[cardinality(v_shares)]));
    v_net := v.refunded + v_amount - v.fee_returned - v_fee;
    SELECT coalesce(sum(o.part), 0) AS parts, coalesce(bool_or(o.part > available(o.account_id)), false) AS missing INTO v_back
    FROM owed_shares(v, v_net) o;
    IF v_back.missing OR available(v.to_id) + v_back.parts < v_amount - v_fee THEN
        RETURN close_step(p_key, p_body, v_locked.now_us, ${StepOutcome.INSUFFICIENT}::smallint, p_payment, v.version, NULL);
    ELSIF NOT p_all AND v.from_id = ANY (v_locked.in_debt) THEN
        RETURN (${StepOutcome.AGAIN}, NULL, NULL, NULL)::answer;
    END IF;
    v.moved_us := greatest(v_locked.at_us, v.moved_us);
    IF v.shared THEN
        PERFORM return_shares(v, v.moved_us, v_net, v_locked.slot[1]);
    END IF;
    IF v_amount > v_fee THEN
        PERFORM post(v.moved_us, v.currency, ${TransferReason.REFUND}::smallint, p_payment, NULL,
                     v.to_id, v_locked.slot[1], v.from_id, v_locked.slot[3], v_amount - v_fee);
    END IF;
    IF v_fee > 0 THEN
        PERFORM post(v.moved_us, v.currency, ${TransferReason.FEE_RETURNED}::smallint, p_payment, NULL,
                     v_fees, v_locked.slot[2], v.from_id, v_locked.slot[3], v_fee);
    END IF;
    IF v.from_id = ANY (v_locked.in_debt) THEN
        PERFORM settle_debt(v.moved_us, v.currency, p_payment, v.from_id, v_locked.slot[3]);
    END IF;
    v.version := v.version + 1;
    v.state := ${PaymentState.REFUNDED};
    v.refunded := v.refunded + v_amount;
    v.fee_returned := v.fee_returned + v_fee;
    UPDATE payments SET version = v.version, state = v.state, refunded = v.refunded, fee_returned = v.fee_returned,
        moved_us = v.moved_us WHERE payment_id = p_payment;
    PERFORM note_version(v, ${PaymentStep.REFUND}::smallint, p_actor);
    RETURN close_step(p_key, p_body, v.moved_us, v_outcome, p_payment, v.version, NULL);
END $$;
