-- Take from a wallet what cannot be refused (a chargeback, a failed payout): what is there, and the rest as a debt of its
-- owner, which later credits settle first.
CREATE FUNCTION take_anyway(
    p_key uuid, p_body bytea, p_tenant smallint, p_subject uuid, p_reason smallint, p_from uuid, p_to uuid, p_amount bigint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v_from accounts%ROWTYPE;
    v_receivable uuid;
    v_locked record;
    v_part bigint;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT a.* INTO v_from FROM accounts a WHERE a.account_id = p_from AND a.slot = 0 AND a.tenant_id = p_tenant;
    IF NOT FOUND THEN
        RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.WALLET_NOT_FOUND}::smallint, NULL, NULL, NULL);
    ELSIF p_amount NOT BETWEEN 1 AND ${AMOUNT_MINOR_MAX} THEN
        RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.AMOUNT}::smallint, NULL, NULL, NULL);
    END IF;
    v_receivable := open_account(p_tenant, v_from.owner_id, v_from.currency, ${Purpose.RECEIVABLE}::smallint,
                                 1::smallint, false, NULL, NULL, NULL);
    SELECT l.* INTO v_locked FROM lock_accounts(ARRAY[p_from, p_to, v_receivable], ARRAY[true, false, true]) l;
    v_part := least(available(p_from), p_amount);
    IF v_part > 0 THEN
        PERFORM post(v_locked.at_us, v_from.currency, p_reason, p_subject, NULL,
                     p_from, v_locked.slot[1], p_to, v_locked.slot[2], v_part);
    END IF;
    IF v_part < p_amount THEN
        PERFORM post(v_locked.at_us, v_from.currency, p_reason, p_subject, NULL,
                     v_receivable, v_locked.slot[3], p_to, v_locked.slot[2], p_amount - v_part);
        UPDATE accounts SET in_debt = true WHERE account_id = p_from;
    END IF;
    RETURN close_step(p_key, p_body, v_locked.at_us, ${StepOutcome.DONE}::smallint, p_subject, 1, p_amount - v_part);
END $$;
