-- Whether this can be transferred now; the slots are locked, and so is the transfer that it takes back, which is noted.
CREATE FUNCTION judge_leg(p_tenant smallint, p_from uuid, p_to uuid, p_amount bigint, p_reverses bigint) RETURNS smallint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_from accounts%ROWTYPE;
    v_to accounts%ROWTYPE;
    v_original transfers%ROWTYPE;
    v_reversed bigint;
BEGIN
    SELECT a.* INTO v_from FROM accounts a WHERE a.account_id = p_from AND a.slot = 0 AND a.tenant_id = p_tenant;
    SELECT a.* INTO v_to FROM accounts a WHERE a.account_id = p_to AND a.slot = 0 AND a.tenant_id = p_tenant;
    IF v_from.account_id IS NULL OR v_to.account_id IS NULL
       OR ${Purpose.RECEIVABLE} IN (v_from.purpose, v_to.purpose) THEN  -- debts begin and end by steps of their own
        RETURN ${StepOutcome.WALLET_NOT_FOUND};
    ELSIF p_from = p_to THEN
        RETURN ${StepOutcome.OWN_PAYEE};
    ELSIF v_from.currency <> v_to.currency THEN
        RETURN ${StepOutcome.CURRENCY};
    ELSIF v_from.status <> ${AccountStatus.ACTIVE} OR v_to.status <> ${AccountStatus.ACTIVE} THEN
        RETURN ${StepOutcome.WALLET_CLOSED};
    ELSIF p_amount NOT BETWEEN 1 AND ${AMOUNT_MINOR_MAX} OR available(p_to) + p_amount > ${BALANCE_MAX}
          OR available(p_from) - p_amount < -${BALANCE_MAX} THEN
        RETURN ${StepOutcome.AMOUNT};
    ELSIF v_from.floored AND available(p_from) < p_amount THEN
        RETURN ${StepOutcome.INSUFFICIENT};
    ELSIF p_reverses IS NOT NULL THEN
        SELECT t.* INTO v_original FROM transfers t
        WHERE t.transfer_no = p_reverses AND t.debit_id = p_to AND t.credit_id = p_from;
        INSERT INTO reversals AS r (transfer_no, reversed) VALUES (p_reverses, p_amount)
        ON CONFLICT (transfer_no) DO UPDATE SET reversed = r.reversed + p_amount RETURNING r.reversed INTO v_reversed;
        IF v_original.reason NOT IN (${TransferReason.TRANSFER}, ${TransferReason.OPENING_BALANCE},
                                     ${TransferReason.TOP_UP}, ${TransferReason.WITHDRAWAL}) THEN
            RETURN ${StepOutcome.STATE};  -- payments and exchanges have steps of their own that take them back
        ELSIF v_original.amount IS NULL OR v_reversed > v_original.amount THEN
            RETURN ${StepOutcome.AMOUNT};
        END IF;
    END IF;
    RETURN ${StepOutcome.DONE};
END $$;
