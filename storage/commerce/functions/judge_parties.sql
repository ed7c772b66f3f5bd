-- Whether two accounts can be the wallets of a payment: of this tenant, these owners and this currency.
CREATE FUNCTION judge_parties(
    p_tenant smallint, p_currency text, p_from uuid, p_payer uuid, p_to uuid, p_payee uuid
) RETURNS smallint
LANGUAGE sql STABLE
AS $$
    SELECT (CASE
        WHEN p_payer = p_payee THEN ${StepOutcome.OWN_PAYEE}
        WHEN count(*) < 2 THEN ${StepOutcome.WALLET_NOT_FOUND}
        WHEN bool_or(a.currency <> p_currency) THEN ${StepOutcome.CURRENCY}
        WHEN bool_or(a.status <> ${AccountStatus.ACTIVE}) THEN ${StepOutcome.WALLET_CLOSED}
        ELSE ${StepOutcome.DONE} END)::smallint
    FROM accounts a
    WHERE ((a.account_id = p_from AND a.owner_id = p_payer) OR (a.account_id = p_to AND a.owner_id = p_payee))
      AND a.account_id IN (p_from, p_to) AND a.slot = 0 AND a.tenant_id = p_tenant AND a.purpose = ${Purpose.WALLET}
$$;
