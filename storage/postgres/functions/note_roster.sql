-- Note what event `p_seq` of a sealed dialog has made of these: members as they are in `members` now, or none any more.
-- The log of a member stays as it was noted; that of a new member is the one of `fill_logs`. With `p_generation` and so on
-- it becomes that. The caller has locked the head.
CREATE FUNCTION note_roster(
    p_dialog uuid, p_principals uuid[], p_seq bigint,
    p_generation bigint DEFAULT NULL, p_length int DEFAULT NULL, p_head bytea DEFAULT NULL
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    IF (SELECT h.mode FROM heads h WHERE h.dialog_id = p_dialog) <> ${Mode.SEALED} THEN
        RETURN;
    END IF;
    WITH ended AS (
        UPDATE roster_intervals r SET until_seq = p_seq
        WHERE r.dialog_id = p_dialog AND r.until_seq = ${STILL} AND r.principal_id = ANY (p_principals)
        RETURNING r.principal_id, r.generation, r.length, r.head
    )
    INSERT INTO roster_intervals (dialog_id, principal_id, from_seq, role, joined_seq, generation, length, head)
    SELECT p_dialog, m.principal_id, p_seq, m.role, m.from_seq, coalesce(p_generation, e.generation, i.generation, 0),
           coalesce(p_length, e.length, i.length, 0), coalesce(p_head, e.head, i.head, '')
    FROM members m
    LEFT JOIN ended e ON e.principal_id = m.principal_id
    LEFT JOIN identities i ON i.principal_id = m.principal_id AND i.length > 0
    WHERE m.dialog_id = p_dialog AND m.principal_id = ANY (p_principals) AND m.member;
END $$;
