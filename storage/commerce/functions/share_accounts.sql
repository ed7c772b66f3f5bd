-- What a step of a payment that is divided locks beside its own: the wallets of the shares, whole, and their receivables.
CREATE FUNCTION share_accounts(p payments) RETURNS uuid[]
LANGUAGE sql STABLE
AS $$
    SELECT coalesce(array_agg(x.id), '{}') FROM (
        SELECT unnest(ARRAY[s.account_id, account_of(a.tenant_id, a.owner_id, a.currency, ${Purpose.RECEIVABLE}::smallint)]) AS id
        FROM payment_shares s JOIN accounts a ON a.account_id = s.account_id AND a.slot = 0
        WHERE p.shared AND s.payment_id = p.payment_id AND s.account_id <> p.to_id) x
$$;
