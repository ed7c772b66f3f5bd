-- Who gets a part of a payment that begins. DONE, or why not: each is another's active wallet of the currency, or the payee's.
CREATE FUNCTION add_shares(p payments, p_accounts uuid[], p_weights int[]) RETURNS smallint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_outcome smallint;
BEGIN
    SELECT max(CASE WHEN (a.tenant_id = p.tenant_id AND a.purpose = ${Purpose.WALLET}) IS NOT TRUE
                        THEN ${StepOutcome.WALLET_NOT_FOUND}
                    WHEN a.account_id = p.from_id THEN ${StepOutcome.OWN_PAYEE}
                    WHEN a.currency <> p.currency THEN ${StepOutcome.CURRENCY}
                    WHEN a.status <> ${AccountStatus.ACTIVE} THEN ${StepOutcome.WALLET_CLOSED}
                    ELSE ${StepOutcome.DONE} END) INTO v_outcome
    FROM unnest(p_accounts) u(id) LEFT JOIN accounts a ON a.account_id = u.id AND a.slot = 0;
    IF v_outcome = ${StepOutcome.DONE} THEN
        INSERT INTO payment_shares (payment_id, place, account_id, slots, weight)
        SELECT p.payment_id, u.place, u.id, a.slots, u.weight
        FROM unnest(p_accounts, p_weights) WITH ORDINALITY AS u(id, weight, place)
        JOIN accounts a ON a.account_id = u.id AND a.slot = 0;
    END IF;
    RETURN v_outcome;
END $$;
