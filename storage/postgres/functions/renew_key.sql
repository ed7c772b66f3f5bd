-- Replace the API key of an account that the owner has, and end its sign-ins; false if there is no such account.
CREATE FUNCTION renew_key(
    p_now_ms bigint, p_tenant smallint, p_actor uuid, p_owner uuid, p_principal uuid, p_key_hash bytea
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    IF NOT lock_account(p_tenant, p_owner, p_principal) THEN  -- a sign-in that used the old key is seen, and ended
        RETURN false;
    END IF;
    UPDATE api_keys SET key_hash = p_key_hash WHERE principal_id = p_principal;
    PERFORM end_sign_ins(p_now_ms, p_principal, NULL, NULL, ${EndReason.SIGNED_OUT}::smallint, 'sign_in.ended');
    PERFORM note_audit(p_now_ms, p_tenant, 'account.key_renewed', p_actor, p_principal, NULL);
    RETURN true;
END $$;
