-- Take the money of a payment that begins: into a hold, or to the payee at once. Locks persons and slots; judges then.
--
-- `p_until_us`, if not null: at that time it has expired, also when this call had to wait until then. `at_us` dates what
-- moved, `now_us` is the clock.
-- `outcome` AGAIN: more must be locked than was; nothing is written, the caller calls with `p_all`.
CREATE FUNCTION take_payment(
    p payments, p_limited boolean, p_until_us bigint, p_all boolean, OUT outcome smallint, OUT at_us bigint, OUT fee bigint,
    OUT now_us bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_fees uuid;
    v_shares uuid[];
    v_locked record;
    v_use record;
    v_rate numeric;
    v_slot smallint := pg_backend_pid() % p.from_slots;
    v_available bigint;
    v_counted bigint := 0;
    v_day_us bigint;
    v_month_us bigint;
BEGIN
    p_all := p_all OR p.shared;
    IF p_limited THEN
        SELECT r.rate INTO v_rate FROM persons w
        LEFT JOIN LATERAL (SELECT x.rate FROM reference_rates x
                           WHERE x.tenant_id = p.tenant_id AND x.currency = p.currency) r ON true
        WHERE w.person_id = p.payer_id FOR NO KEY UPDATE OF w;
    END IF;
    fee := 0;
    IF p.capture_later AND p.from_slots = 1 THEN
        SELECT a.status = ${AccountStatus.ACTIVE} AS active, a.balance AS available, NULL::uuid[] AS in_debt,
               greatest(a.moved_us, (SELECT max(w.ends_us) FROM periods w)) AS from_us
        INTO STRICT v_locked FROM accounts a WHERE a.account_id = p.from_id AND a.slot = 0 FOR NO KEY UPDATE;
        now_us := clock_us();
        at_us := greatest(now_us, v_locked.from_us);
        v_available := v_locked.available;
    ELSIF p.capture_later THEN
        v_locked := lock_slots(ARRAY[p.from_id], ARRAY[0::smallint], ARRAY[p.from_slots - 1::smallint]);
        at_us := v_locked.at_us;
        now_us := v_locked.now_us;
    ELSE
        v_shares := CASE WHEN p.shared THEN share_accounts(p) ELSE '{}' END;
        fee := fee_of(p.amount, p.basis_points, p.fixed);
        v_fees := account_of(p.tenant_id, '${NIL}', p.currency, ${Purpose.FEES}::smallint);
        v_locked := lock_accounts(
            ARRAY[p.from_id, p.to_id, CASE WHEN fee > 0 THEN v_fees END,
                  CASE WHEN p_all THEN account_of(p.tenant_id, p.payee_id, p.currency, ${Purpose.RECEIVABLE}::smallint) END]
            || v_shares,
            ARRAY[true, p_all, false, true] || array_fill(true, ARRAY[cardinality(v_shares)]));
        at_us := v_locked.at_us;
        now_us := v_locked.now_us;
    END IF;
    outcome := CASE WHEN now_us >= p_until_us THEN ${StepOutcome.EXPIRED}
                    WHEN NOT v_locked.active THEN ${StepOutcome.WALLET_CLOSED}
                    WHEN coalesce(v_available, available(p.from_id)) < p.amount THEN ${StepOutcome.INSUFFICIENT}
                    WHEN NOT p_all AND p.to_id = ANY (v_locked.in_debt) THEN ${StepOutcome.AGAIN}
                    ELSE ${StepOutcome.DONE} END;
    IF p_limited AND outcome = ${StepOutcome.DONE} THEN
        v_counted := least(ceil(p.amount * v_rate), ${BALANCE_MAX} + 1);  -- more fits nobody, and would overflow
        IF v_rate IS NULL THEN
            outcome := ${StepOutcome.CURRENCY};
        ELSE
            v_use := judge_use(p.payer_id, v_counted, at_us);
            v_day_us := v_use.day_us;
            v_month_us := v_use.month_us;
            outcome := CASE WHEN v_use.fits THEN ${StepOutcome.DONE} ELSE ${StepOutcome.OVER_LIMIT} END;
        END IF;
    END IF;
    IF outcome <> ${StepOutcome.DONE} THEN
        RETURN;
    END IF;
    IF p.capture_later THEN
        WITH held AS (
            INSERT INTO holds (hold_id, account_id, slot, currency, amount, balance, state,
                               person_id, counted, day_us, month_us)
            VALUES (p.payment_id, p.from_id, v_slot, p.currency, p.amount, p.amount, ${HoldState.OPEN},
                    CASE WHEN p_limited THEN p.payer_id END, v_counted, v_day_us, v_month_us)
        ), counted AS (
            UPDATE limit_use u SET used = u.used + v_counted
            FROM (VALUES (${LimitSpan.DAY}, v_day_us), (${LimitSpan.MONTH}, v_month_us)) b(span, starts_us)
            WHERE p_limited AND u.person_id = p.payer_id AND u.span = b.span AND u.starts_us = b.starts_us
        ), taken AS (
            UPDATE accounts a SET balance = a.balance - p.amount, moved_us = at_us
            WHERE a.account_id = p.from_id AND a.slot = v_slot RETURNING a.balance
        )
        INSERT INTO transfers (at_us, debit_id, debit_slot, credit_id, credit_slot, amount, currency, reason, subject_id,
                               debit_after, credit_after)
        SELECT at_us, p.from_id, v_slot, p.payment_id, ${HOLD_SLOT}, p.amount, p.currency, ${TransferReason.HOLD}, p.payment_id,
               t.balance, p.amount FROM taken t;
        RETURN;
    END IF;
    IF p_limited THEN
        PERFORM add_use(p.payer_id, v_day_us, v_month_us, v_counted);
    END IF;
    IF p.amount > fee THEN
        PERFORM post(at_us, p.currency, ${TransferReason.PAYMENT}::smallint, p.payment_id, NULL,
                     p.from_id, v_slot, p.to_id, v_locked.slot[2], p.amount - fee);
    END IF;
    IF fee > 0 THEN
        PERFORM post(at_us, p.currency, ${TransferReason.FEE}::smallint, p.payment_id, NULL,
                     p.from_id, v_slot, v_fees, v_locked.slot[3], fee);
    END IF;
    IF p.shared AND p.amount > fee THEN
        PERFORM pay_shares(p, at_us, p.amount - fee, v_locked.slot[2]);
    END IF;
    IF p.to_id = ANY (v_locked.in_debt) THEN
        PERFORM settle_debt(at_us, p.currency, p.payment_id, p.to_id, v_locked.slot[2]);
    END IF;
END $$;
