-- What can be taken from an account: its balance over all slots, which the caller has locked.
CREATE FUNCTION available(p_account uuid) RETURNS bigint
LANGUAGE sql STABLE
AS $$ SELECT sum(a.balance)::bigint FROM accounts a WHERE a.account_id = p_account $$;
