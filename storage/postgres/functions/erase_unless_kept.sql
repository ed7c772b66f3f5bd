-- Erase a row of somebody who is purged: a message, an edit, a reaction. A message of a kind that must be kept gets the end
-- of that time as its own, and its edits are erased with it (`erase_expired`).
CREATE FUNCTION erase_unless_kept(p_now_ms bigint, p_dialog uuid, p_seq bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_tag smallint;
    v_kept_until_ms bigint;
BEGIN
    SELECT j.tag, CASE j.tag
        WHEN ${tag.Posted} THEN kept_until(j.body, j.at_ms)
        WHEN ${tag.Edited} THEN (
            SELECT kept_until(m.body, m.at_ms) FROM journal m
            WHERE m.dialog_id = j.dialog_id AND m.seq = j.target AND m.tag = ${tag.Posted})
        END
    INTO v_tag, v_kept_until_ms FROM journal j WHERE j.dialog_id = p_dialog AND j.seq = p_seq;
    IF v_tag NOT IN (${tag.Posted}, ${tag.Edited}, ${tag.Reacted}) THEN
        RETURN;
    ELSIF coalesce(v_kept_until_ms, 0) <= p_now_ms THEN
        PERFORM erase_message(p_dialog, p_seq, p_now_ms + ${ERASE_HANGING_AFTER_MS});
    ELSIF v_tag = ${tag.Posted} THEN
        UPDATE journal j SET expires_at_ms = v_kept_until_ms WHERE j.dialog_id = p_dialog AND j.seq = p_seq;
    END IF;
END $$;
