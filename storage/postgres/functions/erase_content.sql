-- Erase a row of somebody who is purged: a message, an edit, a reaction; any other stays.
CREATE FUNCTION erase_content(p_now_ms bigint, p_dialog uuid, p_seq bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    IF (SELECT j.tag IN (${tag.Posted}, ${tag.Edited}, ${tag.Reacted}) FROM journal j
        WHERE j.dialog_id = p_dialog AND j.seq = p_seq) THEN
        PERFORM erase_message(p_dialog, p_seq, p_now_ms + ${ERASE_HANGING_AFTER_MS});
    END IF;
END $$;
