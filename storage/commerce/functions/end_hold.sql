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
    v_returns boolean := p_all OR p_captured < p.amount;
    v_locked record;
    v_part bigint;
BEGIN
    SELECT h.* INTO STRICT v_hold FROM holds h WHERE h.hold_id = p.payment_id;
    IF v_returns AND v_hold.person_id IS NOT NULL THEN
        PERFORM FROM persons w WHERE w.person_id = v_hold.person_id FOR NO KEY UPDATE;
    END IF;
    SELECT l.* INTO v_locked FROM lock_accounts(
        ARRAY[CASE WHEN p_captured > 0 THEN p.to_id END, CASE WHEN v_fee > 0 THEN v_fees END, CASE WHEN v_returns THEN p.from_id END,
              CASE WHEN p_all THEN account_of(p.tenant_id, p.payee_id, p.currency, ${Purpose.RECEIVABLE}::smallint) END,
              CASE WHEN p_all THEN account_of(p.tenant_id, p.payer_id, p.currency, ${Purpose.RECEIVABLE}::smallint) END],
        ARRAY[p_all, false, p_all, true, true]) l;
    at_us := greatest(v_locked.at_us, p.moved_us);
    outcome := ${StepOutcome.DONE};
    version := p.version;
    IF at_us >= p.expires_us AND p_step <> ${PaymentStep.VOID} THEN
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
    IF p_captured > v_fee THEN
        PERFORM post(at_us, p.currency, ${Reason.CAPTURE}::smallint, p.payment_id, NULL,
                     p.payment_id, ${HOLD_SLOT}::smallint, p.to_id, v_locked.slot[1], p_captured - v_fee);
    END IF;
    IF v_fee > 0 THEN
        PERFORM post(at_us, p.currency, ${Reason.FEE}::smallint, p.payment_id, NULL,
                     p.payment_id, ${HOLD_SLOT}::smallint, v_fees, v_locked.slot[2], v_fee);
    END IF;
    IF p_captured < p.amount THEN
        PERFORM post(at_us, p.currency, ${Reason.RETURN}::smallint, p.payment_id, NULL,
                     p.payment_id, ${HOLD_SLOT}::smallint, p.from_id, v_locked.slot[3], p.amount - p_captured);
        IF v_hold.person_id IS NOT NULL THEN
            v_part := div(v_hold.counted::numeric * (p.amount - p_captured), p.amount)::bigint;
            PERFORM give_back_use(p.payment_id, v_part);
        END IF;
    END IF;
    UPDATE holds SET state = CASE p_step WHEN ${PaymentStep.CAPTURE} THEN ${HoldState.CAPTURED}
                                         WHEN ${PaymentStep.VOID} THEN ${HoldState.VOIDED} ELSE ${HoldState.EXPIRED} END
    WHERE hold_id = p.payment_id;
    IF p_captured > 0 AND p.to_id = ANY (v_locked.in_debt) THEN
        PERFORM settle_debt(at_us, p.currency, p.payment_id, p.to_id, v_locked.slot[1]);
    END IF;
    IF p_captured < p.amount AND p.from_id = ANY (v_locked.in_debt) THEN
        PERFORM settle_debt(at_us, p.currency, p.payment_id, p.from_id, v_locked.slot[3]);
    END IF;
    p.version := p.version + 1;
    p.moved_us := at_us;
    p.captured := p_captured;
    p.fee := v_fee;
    p.state := CASE p_step WHEN ${PaymentStep.CAPTURE} THEN ${PaymentState.PAID}
                           WHEN ${PaymentStep.VOID} THEN ${PaymentState.CANCELLED} ELSE ${PaymentState.EXPIRED} END;
    version := p.version;
    UPDATE payments x SET version = p.version, state = p.state, captured = p.captured, fee = p.fee, moved_us = p.moved_us
    WHERE x.payment_id = p.payment_id;
    PERFORM note_version(p, p_step, p_actor);
END $$;
