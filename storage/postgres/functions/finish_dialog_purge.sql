-- End a look through a deleted dialog; `p_grace_from_ms` is that of the look. One that met nothing was the last. After any
-- other comes another one, a day later: it takes what was written late.
CREATE FUNCTION finish_dialog_purge(p_now_ms bigint, p_grace_ms bigint, p_dialog uuid, p_grace_from_ms bigint)
RETURNS void
LANGUAGE sql VOLATILE
AS $$
    DELETE FROM deleted_dialogs
    WHERE dialog_id = p_dialog AND grace_from_ms = p_grace_from_ms AND NOT found;
    UPDATE deleted_dialogs
    SET grace_from_ms = p_now_ms + ${DAY_MS} - p_grace_ms, done_seq = 0, found = false
    WHERE dialog_id = p_dialog AND grace_from_ms = p_grace_from_ms;
$$;
