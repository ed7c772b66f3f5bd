-- Erase what identifies a deleted person: at once their profile, number and external id; of their sign-ins, blocks,
-- contacts, invitations and backup at most `p_limit` rows. Returns how many rows that were; below `p_limit`, nothing is left.
-- Their `self` dialog is deleted, and purged without another grace. What they wrote to others is erased in the background
-- (`erase_authored.sql`), a while later: no flush of theirs is under way then. Their opaque id stays.
CREATE FUNCTION purge_person(p_now_ms bigint, p_principal uuid, p_limit int) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_left int := p_limit;
    v_rows int;
    v_table text;
    v_column text;
BEGIN
    DELETE FROM people WHERE principal_id = p_principal;
    IF FOUND THEN
        UPDATE principals SET external_id = NULL, admin = false WHERE principal_id = p_principal;
        INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id)
        SELECT p_now_ms, tenant_id, 'person.purged', principal_id, principal_id
        FROM principals WHERE principal_id = p_principal;
        INSERT INTO purged_authors (principal_id, due_ms) VALUES (p_principal, p_now_ms + ${ERASE_HANGING_AFTER_MS})
        ON CONFLICT DO NOTHING;
        WITH own AS (
            UPDATE heads h SET deleted = true FROM members m
            WHERE m.principal_id = p_principal AND h.dialog_id = m.dialog_id AND h.type = ${DialogType.SELF}
            RETURNING h.dialog_id)
        INSERT INTO deleted_dialogs (dialog_id, grace_from_ms) SELECT own.dialog_id, 0 FROM own ON CONFLICT DO NOTHING;
    END IF;
    -- Tokens first: with its sign-in, all of them would go in one step.
    DELETE FROM refresh_tokens WHERE ctid = ANY (ARRAY(
        SELECT t.ctid FROM sign_ins s JOIN refresh_tokens t ON t.sign_in_id = s.sign_in_id
        WHERE s.principal_id = p_principal LIMIT v_left));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_left := v_left - v_rows;
    FOR v_table, v_column IN VALUES
        ('sign_ins', 'principal_id'),
        ('blocks', 'blocker_id'),
        ('contacts', 'principal_id'),
        ('invitations', 'principal_id'),
        ('backups', 'principal_id'),
        ('backup_counts', 'principal_id')
    LOOP
        EXECUTE format(
            'DELETE FROM %1$I WHERE ctid = ANY (ARRAY(SELECT ctid FROM %1$I WHERE %2$I = $1 LIMIT $2))',
            v_table, v_column)
        USING p_principal, v_left;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        v_left := v_left - v_rows;
    END LOOP;
    IF v_left > 0 THEN
        UPDATE principals SET purged = true WHERE principal_id = p_principal;
    END IF;
    RETURN p_limit - v_left;
END $$;
