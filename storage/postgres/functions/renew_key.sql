-- Replace the API key of an account that the owner has, and end its sign-ins; false if there is no such account.
CREATE FUNCTION renew_key(
    p_now_ms bigint, p_tenant smallint, p_actor uuid, p_owner uuid, p_principal uuid, p_key_hash bytea
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    -- First the row that a sign-in locks: one that used the old key is seen, and ended, below.
    PERFORM 1 FROM principals p JOIN accounts a ON a.principal_id = p.principal_id
    WHERE a.principal_id = p_principal AND a.tenant_id = p_tenant AND a.owner_id = p_owner FOR NO KEY UPDATE OF p;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE api_keys SET key_hash = p_key_hash WHERE principal_id = p_principal;
    PERFORM end_sign_ins(p_now_ms, p_principal, NULL, NULL, ${EndReason.SIGNED_OUT}::smallint, 'sign_in.ended');
    PERFORM note_audit(p_now_ms, p_tenant, 'account.key_renewed', p_actor, p_principal, NULL);
    RETURN true;
END $$;
