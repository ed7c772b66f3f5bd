-- Take an amount from a wallet: what is there, and the rest as a debt of its owner, which later credits settle first. Returns
-- the debt. Locks the wallet, its receivable and a slot of `p_to`; `at_us` is the time of the transfers.
CREATE FUNCTION take_or_owe(
    p_reason smallint, p_subject uuid, p_from uuid, p_to uuid, p_amount bigint, OUT debt bigint, OUT at_us bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_from accounts%ROWTYPE;
    v_receivable uuid;
    v_locked record;
    v_part bigint;
BEGIN
    SELECT a.* INTO STRICT v_from FROM accounts a WHERE a.account_id = p_from AND a.slot = 0;
    v_receivable := account_of(v_from.tenant_id, v_from.owner_id, v_from.currency, ${Purpose.RECEIVABLE}::smallint);
    v_locked := lock_accounts(ARRAY[p_from, p_to, v_receivable], ARRAY[true, false, true]);
    at_us := v_locked.at_us;
    v_part := least(available(p_from), p_amount);
    debt := p_amount - v_part;
    IF v_part > 0 THEN
        PERFORM post(at_us, v_from.currency, p_reason, p_subject, NULL,
                     p_from, v_locked.slot[1], p_to, v_locked.slot[2], v_part);
    END IF;
    IF debt > 0 THEN
        PERFORM post(at_us, v_from.currency, p_reason, p_subject, NULL,
                     v_receivable, v_locked.slot[3], p_to, v_locked.slot[2], debt);
        UPDATE accounts SET in_debt = true WHERE account_id = p_from;
    END IF;
END $$;
