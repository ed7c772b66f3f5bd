-- Erase a message: one row. What hangs on it counts as erased at once, and is blanked by `erase_hanging` from
-- `p_due_ms` on.
--
-- The lock comes first: who begins to archive takes it exclusively, so either they wait until the row is blank, or the
-- last statement sees that there is an archive.
CREATE FUNCTION erase_message(p_dialog uuid, p_seq bigint, p_due_ms bigint) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    LOCK TABLE archive_erasures IN ROW EXCLUSIVE MODE;
    SELECT copy_commitment(p_dialog, p_seq, p_due_ms);
    UPDATE journal SET body = ${packed.Erased}, tag = ${tag.Erased} WHERE dialog_id = p_dialog AND seq = p_seq;
    INSERT INTO erasures (dialog_id, target, due_ms) VALUES (p_dialog, p_seq, p_due_ms) ON CONFLICT DO NOTHING;
    INSERT INTO archive_erasures SELECT p_dialog, p_seq FROM archiving ON CONFLICT DO NOTHING;
$$;
