-- What an owner owes is settled first from what has just come in. All slots and the receivable are locked.
CREATE FUNCTION settle_debt(p_at_us bigint, p_currency text, p_subject uuid, p_account uuid, p_slot smallint) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_receivable uuid;
    v_part bigint;
    v_debt bigint;
BEGIN
    SELECT account_of(a.tenant_id, a.owner_id, a.currency, ${Purpose.RECEIVABLE}::smallint) INTO STRICT v_receivable
    FROM accounts a WHERE a.account_id = p_account AND a.slot = 0;
    v_debt := -available(v_receivable);
    v_part := least(v_debt, available(p_account));
    IF v_part > 0 THEN
        PERFORM post(p_at_us, p_currency, ${TransferReason.DEBT_SETTLED}::smallint, p_subject, NULL,
                     p_account, p_slot, v_receivable, 0::smallint, v_part);
    END IF;
    IF v_part = v_debt THEN
        UPDATE accounts SET in_debt = false WHERE account_id = p_account;
    END IF;
END $$;
