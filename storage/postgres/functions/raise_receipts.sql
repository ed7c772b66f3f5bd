-- Raise high-water marks; returns the receipts that grew, as they are now. They never pass the dialog's head. Those with
-- `p_again` count as grown: an earlier call of unknown fate may have raised them, so they are stamped and returned anew.
-- One whose `read` is an event that is in the archive only is not raised, and is returned without `read_messages`.
-- In another epoch than `p_epoch` nothing is raised, and nothing returned.
-- Rows of `members`, and of `receipt_heads`, are locked in the order of their keys everywhere: no two calls deadlock.
CREATE FUNCTION raise_receipts(
    p_incarnation bigint, p_epoch bigint, p_dialog uuid[], p_principal uuid[], p_delivered bigint[], p_read bigint[], p_again boolean[]
) RETURNS TABLE (
    dialog_id uuid, principal_id uuid, delivered bigint, read bigint, read_messages bigint,
    shared boolean, member_count int
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
BEGIN
    PERFORM hold_incarnation(p_incarnation);
    IF p_epoch <> (SELECT d.epoch FROM deployment d) THEN
        RETURN;
    END IF;
    PERFORM 1 FROM members m
    JOIN unnest(p_dialog, p_principal) AS r(dialog_id, principal_id)
        ON m.dialog_id = r.dialog_id AND m.principal_id = r.principal_id
    ORDER BY m.dialog_id, m.principal_id FOR NO KEY UPDATE OF m;

    RETURN QUERY
    WITH wanted AS MATERIALIZED (
        SELECT x.*, CASE WHEN x.read = x.old_read THEN x.old_messages WHEN x.read = x.head_seq THEN x.head_messages ELSE (
                   SELECT j.messages FROM journal j WHERE j.dialog_id = x.dialog_id AND j.seq = x.read) END AS read_messages
        FROM (
            SELECT r.dialog_id, r.principal_id, h.type, h.member_count, h.seq AS head_seq, h.messages AS head_messages,
                   greatest(m.read, least(r.read, h.seq)) AS read,
                   greatest(m.delivered, m.read, least(greatest(r.delivered, r.read), h.seq)) AS delivered,
                   m.read AS old_read, m.delivered AS old_delivered, m.read_messages AS old_messages, r.again
            FROM unnest(p_dialog, p_principal, p_delivered, p_read, p_again)
                AS r(dialog_id, principal_id, delivered, read, again)
            JOIN heads h ON h.dialog_id = r.dialog_id
            JOIN members m ON m.dialog_id = r.dialog_id AND m.principal_id = r.principal_id AND m.member) x
    ), raised AS (
        UPDATE members m SET read = w.read, delivered = w.delivered, xid = pg_current_xact_id(),
            read_messages = w.read_messages
        FROM wanted w
        WHERE m.dialog_id = w.dialog_id AND m.principal_id = w.principal_id
          AND (w.read > w.old_read OR w.delivered > w.old_delivered OR w.again) AND w.read_messages IS NOT NULL
        RETURNING m.dialog_id, m.principal_id, m.delivered, m.read, m.read_messages,
                  w.type, w.member_count
    ), noted AS (
        INSERT INTO receipt_heads
        SELECT DISTINCT r.dialog_id, pg_current_xact_id() FROM raised r JOIN dialog_types t USING (type)
        WHERE t.receipts
        ORDER BY r.dialog_id
        ON CONFLICT (dialog_id) DO UPDATE SET xid = excluded.xid
    )
    SELECT r.dialog_id, r.principal_id, r.delivered, r.read, r.read_messages, t.receipts, r.member_count
    FROM raised r JOIN dialog_types t USING (type)
    UNION ALL
    SELECT w.dialog_id, w.principal_id, w.delivered, w.read, NULL, false, w.member_count
    FROM wanted w WHERE w.read_messages IS NULL;
END $$;
