-- Write one line of the audit trail.
CREATE FUNCTION note_audit(
    p_now_ms bigint, p_tenant smallint, p_action text, p_actor uuid, p_subject uuid, p_sign_in uuid
) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id, sign_in_id)
    VALUES (p_now_ms, p_tenant, p_action, p_actor, p_subject, p_sign_in)
$$;
