-- Erase the messages whose time (`expires_at_ms`) is over, at most `p_limit`. Returns how many it looked at.
--
-- The head is not locked: an edit may have been judged just before and commit just after. Hence what hangs on the
-- message is blanked a while later, not at once.
CREATE FUNCTION erase_expired(p_now_ms bigint, p_limit int) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    r record;
    v_looked int := 0;
BEGIN
    FOR r IN
        SELECT j.dialog_id, j.seq, kept_until(j.body, j.at_ms) AS kept_until FROM journal j
        WHERE j.tag = ${tag.Posted} AND j.expires_at_ms <= p_now_ms ORDER BY j.expires_at_ms LIMIT p_limit
    LOOP
        IF r.kept_until > p_now_ms THEN
            UPDATE journal j SET expires_at_ms = r.kept_until WHERE j.dialog_id = r.dialog_id AND j.seq = r.seq;
        ELSE
            PERFORM erase_message(r.dialog_id, r.seq, p_now_ms + ${ERASE_HANGING_AFTER_MS});
        END IF;
        v_looked := v_looked + 1;
    END LOOP;
    RETURN v_looked;
END $$;
