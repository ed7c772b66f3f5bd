-- Erase what has reached its age. Returns how many people were erased; at most `p_limit`, so that no call is long.
CREATE FUNCTION purge_identity(p_now_ms bigint, p_deleted_before_ms bigint, p_ended_before_ms bigint,
                               p_audit_before_ms bigint, p_limit int) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_who uuid;
    v_purged int := 0;
BEGIN
    FOR v_who IN
        SELECT p.principal_id FROM principals p
        WHERE p.status = ${PrincipalStatus.DELETED} AND p.deleted_at_ms <= p_deleted_before_ms
          AND EXISTS (SELECT 1 FROM people x WHERE x.principal_id = p.principal_id)
        ORDER BY p.deleted_at_ms LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        PERFORM purge_person(p_now_ms, v_who);
        v_purged := v_purged + 1;
    END LOOP;
    DELETE FROM codes WHERE expires_at_ms <= p_now_ms;
    DELETE FROM sign_ins WHERE least(revoked_at_ms, expires_at_ms) <= p_ended_before_ms;
    DELETE FROM refresh_tokens WHERE used_at_ms <= p_ended_before_ms;
    DELETE FROM audit WHERE at_ms < p_audit_before_ms AND action LIKE 'sign_in.%';
    RETURN v_purged;
END $$;
