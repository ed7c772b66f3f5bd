-- End the hold of a payment: `p_captured` goes to the payee and into the fee, the rest returns. The payment is locked.
--
-- `p_step` CAPTURE, VOID, or EXPIRE. A hold that is due is expired instead of captured: `outcome` says so. AGAIN: more must
-- be locked than was; nothing is written, the caller calls with `p_all`.
CREATE FUNCTION end_hold(
    p payments, p_step smallint, p_captured bigint, p_actor uuid, p_all boolean, OUT outcome smallint, OUT version int,
    OUT at_us bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_hold holds%ROWTYPE;
    v_fees uuid := account_of(p.tenant_id, '${NIL}', p.currency, ${Purpose.FEES}::smallint);
    v_fee bigint := fee_of(p_captured, p.basis_points, p.fixed);
    v_returns boolean := p_all OR p.shared OR p_captured < p.amount;
    v_locked record;
    v_to_slot smallint := pg_backend_pid() % p.to_slots;
    v_fees_slot smallint := pg_backend_pid() % ${SLOTS_SHARED};
    v_from_slot smallint := pg_backend_pid() % p.from_slots;
    v_moved bigint;
    v_shares uuid[];
BEGIN
    p_all := p_all OR p.shared;
    IF v_returns THEN
        SELECT h.* INTO STRICT v_hold FROM holds h WHERE h.hold_id = p.payment_id;
        PERFORM FROM persons w WHERE w.person_id = v_hold.person_id FOR NO KEY UPDATE;
    END IF;
    IF p_all THEN
        v_shares := share_accounts(p);
        v_locked := lock_slots(
            ARRAY[p.to_id, v_fees, p.from_id,
                  account_of(p.tenant_id, p.payee_id, p.currency, ${Purpose.RECEIVABLE}::smallint),
                  account_of(p.tenant_id, p.payer_id, p.currency, ${Purpose.RECEIVABLE}::smallint)] || v_shares,
            ARRAY[0, v_fees_slot, 0, 0, 0]::smallint[] || array_fill(0::smallint, ARRAY[cardinality(v_shares)]),
            ARRAY[p.to_slots - 1, v_fees_slot, p.from_slots - 1, 0, 0]::smallint[]
            || array_fill(${SLOTS_SHARED}::smallint, ARRAY[cardinality(v_shares)]));
    ELSE
        v_locked := lock_slots(
            ARRAY[CASE WHEN p_captured > 0 THEN p.to_id END, CASE WHEN v_fee > 0 THEN v_fees END,
                  CASE WHEN v_returns THEN p.from_id END],
            ARRAY[v_to_slot, v_fees_slot, v_from_slot], ARRAY[v_to_slot, v_fees_slot, v_from_slot]);
    END IF;
    at_us := greatest(v_locked.at_us, p.moved_us);
    outcome := ${StepOutcome.DONE};
    version := p.version;
    IF v_locked.now_us >= p.expires_us AND p_step <> ${PaymentStep.VOID} THEN
        p_step := ${PaymentStep.EXPIRE};
        p_captured := 0;
        v_fee := 0;
        outcome := ${StepOutcome.EXPIRED};
    ELSIF p_step = ${PaymentStep.EXPIRE} THEN
        outcome := ${StepOutcome.STATE};  -- it is not due
        RETURN;
    END IF;
    IF NOT p_all AND ((NOT v_returns AND p_captured < p.amount) OR cardinality(v_locked.in_debt) > 0) THEN
        outcome := ${StepOutcome.AGAIN};
        RETURN;
    END IF;
    p.version := p.version + 1;
    p.moved_us := at_us;
    p.captured := p_captured;
    p.fee := v_fee;
    p.state := CASE p_step WHEN ${PaymentStep.CAPTURE} THEN ${PaymentState.PAID}
                           WHEN ${PaymentStep.VOID} THEN ${PaymentState.CANCELLED} ELSE ${PaymentState.EXPIRED} END;
    version := p.version;
    WITH leg AS (
        SELECT l.* FROM (
            VALUES (p.to_id, v_to_slot, p_captured - v_fee, p.amount - p_captured + v_fee, ${TransferReason.CAPTURE}),
                   (v_fees, v_fees_slot, v_fee, p.amount - p_captured, ${TransferReason.FEE}),
                   (p.from_id, v_from_slot, p.amount - p_captured, 0, ${TransferReason.RETURN})
        ) l(account_id, slot, amount, hold_after, reason) WHERE l.amount > 0
    ), credited AS (
        UPDATE accounts a SET balance = a.balance + l.amount, moved_us = at_us
        FROM leg l WHERE a.account_id = l.account_id AND a.slot = l.slot
        RETURNING l.*, a.balance
    ), moved AS (
        INSERT INTO transfers (at_us, debit_id, debit_slot, credit_id, credit_slot, amount, currency, reason, subject_id,
                               debit_after, credit_after)
        SELECT at_us, p.payment_id, ${HOLD_SLOT}, c.account_id, c.slot, c.amount, p.currency, c.reason, p.payment_id,
               c.hold_after, c.balance FROM credited c ORDER BY c.hold_after DESC
        RETURNING amount
    ), ended AS (
        UPDATE holds h SET balance = h.balance - p.amount,
            state = CASE p_step WHEN ${PaymentStep.CAPTURE} THEN ${HoldState.CAPTURED}
                                WHEN ${PaymentStep.VOID} THEN ${HoldState.VOIDED} ELSE ${HoldState.EXPIRED} END
        WHERE h.hold_id = p.payment_id RETURNING 1
    ), noted AS (
        INSERT INTO payment_versions (payment_id, version, at_us, step, state, actor_id, captured, fee, refunded)
        VALUES (p.payment_id, p.version, at_us, p_step, p.state, p_actor, p.captured, p.fee, 0)
    ), told AS (
        INSERT INTO outbox (dialog_id, payment_id, version) VALUES (p.dialog_id, p.payment_id, p.version)
    )
    UPDATE payments x SET version = p.version, state = p.state, captured = p.captured, fee = p.fee, moved_us = at_us
    WHERE x.payment_id = p.payment_id RETURNING (SELECT sum(m.amount) FROM moved m, ended) INTO v_moved;
    IF v_moved IS DISTINCT FROM p.amount THEN
        RAISE EXCEPTION 'payment %: % of % would leave the hold', p.payment_id, v_moved, p.amount;  -- an account or the hold is missing
    END IF;
    IF p_captured < p.amount AND v_hold.person_id IS NOT NULL THEN
        PERFORM add_use(v_hold.person_id, v_hold.day_us, v_hold.month_us,
                        -div(v_hold.counted::numeric * (p.amount - p_captured), p.amount)::bigint);
    END IF;
    IF p.shared AND p_captured > v_fee THEN
        PERFORM pay_shares(p, at_us, p_captured - v_fee, v_to_slot);
    END IF;
    IF p_captured > 0 AND p.to_id = ANY (v_locked.in_debt) THEN
        PERFORM settle_debt(at_us, p.currency, p.payment_id, p.to_id, v_to_slot);
    END IF;
    IF p_captured < p.amount AND p.from_id = ANY (v_locked.in_debt) THEN
        PERFORM settle_debt(at_us, p.currency, p.payment_id, p.from_id, v_from_slot);
    END IF;
    IF p.order_id IS NOT NULL THEN
        PERFORM follow_order(p, p_actor);
    END IF;
END $$;
