-- Take the money of a payment that begins: into a hold, or to the payee at once. Locks persons and slots; judges then.
--
-- `outcome` AGAIN: more must be locked than was; nothing is written, the caller calls with `p_all`.
CREATE FUNCTION take_payment(
    p payments, p_all boolean, OUT outcome smallint, OUT at_us bigint, OUT fee bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_from accounts%ROWTYPE;
    v_locked record;
    v_counted bigint;
    v_fits boolean;
    v_day_us bigint;
    v_month_us bigint;
BEGIN
    SELECT a.* INTO v_from FROM accounts a WHERE a.account_id = p.from_id AND a.slot = 0;
    IF v_from.limited THEN
        PERFORM FROM persons w WHERE w.person_id = p.payer_id FOR NO KEY UPDATE;
    END IF;
    fee := CASE WHEN p.capture_later THEN 0 ELSE fee_of(p.amount, p.basis_points, p.fixed) END;
    SELECT l.* INTO v_locked FROM lock_accounts(
        ARRAY[p.from_id,
              CASE WHEN NOT p.capture_later THEN p.to_id END,
              CASE WHEN fee > 0 THEN account_of(p.tenant_id, '${NIL}', p.currency, ${Purpose.FEES}::smallint) END,
              CASE WHEN p_all THEN account_of(p.tenant_id, p.payee_id, p.currency, ${Purpose.RECEIVABLE}::smallint) END],
        ARRAY[true, p_all, false, true]) l;
    at_us := v_locked.at_us;
    IF NOT v_locked.active THEN
        outcome := ${StepOutcome.WALLET_CLOSED};
    ELSIF available(p.from_id) < p.amount THEN
        outcome := ${StepOutcome.INSUFFICIENT};
    ELSIF NOT p.capture_later AND NOT p_all AND p.to_id = ANY (v_locked.in_debt) THEN
        outcome := ${StepOutcome.AGAIN};
    ELSIF v_from.limited THEN
        v_counted := ceil(p.amount * (SELECT r.rate FROM reference_rates r
                                      WHERE r.tenant_id = p.tenant_id AND r.currency = p.currency));
        IF v_counted IS NULL THEN
            outcome := ${StepOutcome.CURRENCY};
        ELSE
            SELECT u.fits, u.day_us, u.month_us INTO v_fits, v_day_us, v_month_us
            FROM count_use(p.payer_id, v_counted, at_us) u;
            outcome := CASE WHEN v_fits THEN ${StepOutcome.DONE} ELSE ${StepOutcome.OVER_LIMIT} END;
        END IF;
    ELSE
        outcome := ${StepOutcome.DONE};
    END IF;
    IF outcome <> ${StepOutcome.DONE} THEN
        RETURN;
    END IF;
    IF p.capture_later THEN
        INSERT INTO holds (hold_id, account_id, slot, currency, amount, balance, state, person_id, counted, day_us, month_us)
        VALUES (p.payment_id, p.from_id, v_locked.slot[1], p.currency, p.amount, 0, ${HoldState.OPEN},
                CASE WHEN v_from.limited THEN p.payer_id END, coalesce(v_counted, 0), v_day_us, v_month_us);
        PERFORM post(at_us, p.currency, ${Reason.HOLD}::smallint, p.payment_id, NULL,
                     p.from_id, v_locked.slot[1], p.payment_id, ${HOLD_SLOT}::smallint, p.amount);
    ELSE
        IF p.amount > fee THEN
            PERFORM post(at_us, p.currency, ${Reason.PAYMENT}::smallint, p.payment_id, NULL,
                         p.from_id, v_locked.slot[1], p.to_id, v_locked.slot[2], p.amount - fee);
        END IF;
        IF fee > 0 THEN
            PERFORM post(at_us, p.currency, ${Reason.FEE}::smallint, p.payment_id, NULL, p.from_id, v_locked.slot[1],
                         account_of(p.tenant_id, '${NIL}', p.currency, ${Purpose.FEES}::smallint), v_locked.slot[3], fee);
        END IF;
        IF p.to_id = ANY (v_locked.in_debt) THEN
            PERFORM settle_debt(at_us, p.currency, p.payment_id, p.to_id, v_locked.slot[2]);
        END IF;
    END IF;
END $$;
