-- Move an amount between two slots that the caller has locked and judged; slot -1 is the hold of that id.
CREATE FUNCTION post(
    p_at_us bigint, p_currency text, p_reason smallint, p_subject uuid, p_reverses bigint,
    p_debit uuid, p_debit_slot smallint, p_credit uuid, p_credit_slot smallint, p_amount bigint
) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_debit_after bigint;
    v_credit_after bigint;
    v_no bigint;
BEGIN
    IF p_debit_slot = ${HOLD_SLOT} THEN
        UPDATE holds SET balance = balance - p_amount WHERE hold_id = p_debit RETURNING balance INTO STRICT v_debit_after;
    ELSE
        UPDATE accounts SET balance = balance - p_amount, moved_us = p_at_us
        WHERE account_id = p_debit AND slot = p_debit_slot RETURNING balance INTO STRICT v_debit_after;
    END IF;
    IF p_credit_slot = ${HOLD_SLOT} THEN
        UPDATE holds SET balance = balance + p_amount WHERE hold_id = p_credit RETURNING balance INTO STRICT v_credit_after;
    ELSE
        UPDATE accounts SET balance = balance + p_amount, moved_us = p_at_us
        WHERE account_id = p_credit AND slot = p_credit_slot RETURNING balance INTO STRICT v_credit_after;
    END IF;
    INSERT INTO transfers (at_us, debit_id, debit_slot, credit_id, credit_slot, amount, currency, reason, subject_id,
                           reverses, debit_after, credit_after)
    VALUES (p_at_us, p_debit, p_debit_slot, p_credit, p_credit_slot, p_amount, p_currency, p_reason, p_subject,
            p_reverses, v_debit_after, v_credit_after)
    RETURNING transfer_no INTO v_no;
    RETURN v_no;
END $$;
