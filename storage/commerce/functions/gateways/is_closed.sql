-- Whether no money may come into an account, which is locked.
CREATE FUNCTION is_closed(p_account uuid) RETURNS boolean
LANGUAGE sql STABLE
AS $$ SELECT a.status <> ${AccountStatus.ACTIVE} FROM accounts a WHERE a.account_id = p_account AND a.slot = 0 $$;
