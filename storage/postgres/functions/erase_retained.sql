-- Erase messages that are older than their dialogs keep them: look at no more than about `p_limit` rows. Returns how
-- much it did; below `p_limit`, that was all.
--
-- A message of a kind that must be kept longer is put off to that time (`erase_expired`).
CREATE FUNCTION erase_retained(p_now_ms bigint, p_limit int) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    t record;
    r record;
    v_left int := p_limit;
    v_due_ms bigint;
BEGIN
    FOR t IN
        SELECT x.dialog_id, x.from_seq, d.message_retention_days * ${DAY_MS}::bigint AS kept_ms
        FROM retention x JOIN dialogs d ON d.dialog_id = x.dialog_id
        WHERE x.due_ms <= p_now_ms ORDER BY x.due_ms LIMIT p_limit FOR UPDATE OF x
    LOOP
        v_due_ms := p_now_ms + t.kept_ms;
        FOR r IN
            SELECT j.seq, j.tag, j.at_ms, j.at_ms + t.kept_ms AS due_ms,
                   CASE WHEN j.tag = ${tag.Posted} THEN kept_until(j.body, j.at_ms) END AS kept_until
            FROM journal j WHERE j.dialog_id = t.dialog_id AND j.seq >= t.from_seq ORDER BY j.seq LIMIT v_left
        LOOP
            IF r.due_ms > p_now_ms THEN
                v_due_ms := r.due_ms;
                EXIT;
            ELSIF r.kept_until > p_now_ms THEN
                UPDATE journal j SET expires_at_ms = r.kept_until WHERE j.dialog_id = t.dialog_id AND j.seq = r.seq;
            ELSIF r.tag = ${tag.Posted} THEN
                PERFORM erase_message(t.dialog_id, r.seq, p_now_ms + ${ERASE_HANGING_AFTER_MS});
            END IF;
            t.from_seq := r.seq + 1;
            v_left := v_left - 1;
        END LOOP;
        UPDATE retention x SET from_seq = t.from_seq, due_ms = CASE WHEN v_left > 0 THEN v_due_ms ELSE x.due_ms END
        WHERE x.dialog_id = t.dialog_id;
        v_left := v_left - 1;
        EXIT WHEN v_left <= 0;
    END LOOP;
    RETURN p_limit - greatest(v_left, 0);
END $$;
