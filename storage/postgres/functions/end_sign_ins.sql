-- End live sign-ins of a principal: those, or all (null), but never `p_except`. Returns the ones that ended.
CREATE FUNCTION end_sign_ins(
    p_now_ms bigint, p_principal uuid, p_these uuid[], p_except uuid, p_why smallint, p_action text
) RETURNS uuid[]
LANGUAGE sql VOLATILE
AS $$
    WITH owner AS MATERIALIZED (
        SELECT principal_id FROM principals WHERE principal_id = p_principal FOR NO KEY UPDATE
    ), ended AS (
        UPDATE sign_ins s SET revoked_at_ms = p_now_ms, revoked_why = p_why
        WHERE s.principal_id = (SELECT principal_id FROM owner) AND s.revoked_at_ms IS NULL
          AND (p_these IS NULL OR s.sign_in_id = ANY (p_these)) AND s.sign_in_id IS DISTINCT FROM p_except
        RETURNING s.sign_in_id, s.tenant_id
    ), noted AS (
        INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id, sign_in_id)
        SELECT p_now_ms, tenant_id, p_action, p_principal, p_principal, sign_in_id FROM ended
    )
    SELECT coalesce(array_agg(sign_in_id), '{}') FROM ended
$$;
