-- Delete an account that the owner has, as a person is deleted; false if there is no such account.
CREATE FUNCTION delete_account(p_now_ms bigint, p_tenant smallint, p_actor uuid, p_owner uuid, p_principal uuid)
RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    IF NOT lock_account(p_tenant, p_owner, p_principal) THEN
        RETURN false;
    END IF;
    DELETE FROM accounts WHERE principal_id = p_principal;
    DELETE FROM api_keys WHERE principal_id = p_principal;
    DELETE FROM webhooks WHERE principal_id = p_principal;
    UPDATE principals SET status = ${PrincipalStatus.ACTIVE} WHERE principal_id = p_principal;
    PERFORM delete_person(p_now_ms, p_principal);
    PERFORM note_audit(p_now_ms, p_tenant, 'account.deleted', p_actor, p_principal, NULL);
    RETURN true;
END $$;
