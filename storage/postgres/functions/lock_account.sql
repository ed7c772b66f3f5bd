-- Lock an account before it is changed, if this owner has it; whether there is such an account. It is the row that a sign-in
-- locks, too: one that uses a key of the account is seen by who holds it.
CREATE FUNCTION lock_account(p_tenant smallint, p_owner uuid, p_principal uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM 1 FROM principals p JOIN accounts a ON a.principal_id = p.principal_id
    WHERE a.principal_id = p_principal AND a.tenant_id = p_tenant AND a.owner_id = p_owner FOR NO KEY UPDATE OF p;
    RETURN FOUND;
END $$;
