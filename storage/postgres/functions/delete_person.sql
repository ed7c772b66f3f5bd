-- Mark an active person as deleted, and end their sign-ins.
CREATE FUNCTION delete_person(p_now_ms bigint, p_principal uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_tenant smallint;
BEGIN
    UPDATE principals SET status = ${PrincipalStatus.DELETED}, deleted_at_ms = p_now_ms
    WHERE principal_id = p_principal AND status = ${PrincipalStatus.ACTIVE} RETURNING tenant_id INTO v_tenant;
    IF v_tenant IS NULL THEN
        RETURN false;
    END IF;
    PERFORM end_sign_ins(p_now_ms, p_principal, NULL, NULL, ${EndReason.DELETED}::smallint, 'sign_in.ended');
    PERFORM note_audit(p_now_ms, v_tenant, 'person.deleted', p_principal, p_principal, NULL);
    RETURN true;
END $$;
