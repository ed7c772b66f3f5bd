-- Erase what identifies a deleted person. What they wrote to others stays, under an opaque id.
CREATE FUNCTION purge_person(p_now_ms bigint, p_principal uuid) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    DELETE FROM people WHERE principal_id = p_principal;
    DELETE FROM sign_ins WHERE principal_id = p_principal;
    DELETE FROM blocks WHERE blocker_id = p_principal;
    UPDATE principals SET external_id = NULL, admin = false WHERE principal_id = p_principal;
    INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id)
    SELECT p_now_ms, tenant_id, 'person.purged', principal_id, principal_id
    FROM principals WHERE principal_id = p_principal;
$$;
