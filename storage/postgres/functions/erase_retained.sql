-- Erase messages that are older than their dialogs keep them: look at no more than about `p_limit` rows. Returns how
-- much it did; below `p_limit`, that was all.
--
-- A message of a kind that must be kept longer is put off to that time (`erase_expired`). Numbers that have left the
-- journal (`trim_journal`) must be put back to be judged: the step ends there, and says which they are. Their dialog
-- comes again a while later.
CREATE FUNCTION erase_retained(
    p_now_ms bigint, p_limit int, OUT rows int, OUT lacks_dialog uuid, OUT lacks_first bigint, OUT lacks_last bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    t record;
    r record;
    v_left int := p_limit;
    v_due_ms bigint;
    v_held bigint;
BEGIN
    FOR t IN
        SELECT x.dialog_id, x.from_seq, d.message_retention_days * ${DAY_MS}::bigint AS kept_ms, h.seq AS head_seq
        FROM retention x JOIN dialogs d ON d.dialog_id = x.dialog_id JOIN heads h ON h.dialog_id = x.dialog_id
        WHERE x.due_ms <= p_now_ms ORDER BY x.due_ms LIMIT p_limit FOR UPDATE OF x
    LOOP
        v_due_ms := p_now_ms + t.kept_ms;
        v_held := NULL;
        FOR r IN
            SELECT j.seq, j.tag, j.at_ms, j.at_ms + t.kept_ms AS due_ms,
                   CASE WHEN j.tag = ${tag.Posted} THEN kept_until(j.body, j.at_ms) END AS kept_until
            FROM journal j WHERE j.dialog_id = t.dialog_id AND j.seq >= t.from_seq ORDER BY j.seq LIMIT v_left
        LOOP
            v_held := r.seq;
            IF r.seq > t.from_seq THEN
                EXIT;
            ELSIF r.due_ms > p_now_ms THEN
                v_due_ms := r.due_ms;
                EXIT;
            ELSIF r.kept_until > p_now_ms THEN
                UPDATE journal j SET expires_at_ms = r.kept_until WHERE j.dialog_id = t.dialog_id AND j.seq = r.seq;
            ELSIF r.tag = ${tag.Posted} THEN
                PERFORM erase_message(t.dialog_id, r.seq, p_now_ms + ${ERASE_HANGING_AFTER_MS});
            END IF;
            t.from_seq := r.seq + 1;
            v_left := v_left - 1;
            v_held := NULL;
        END LOOP;
        IF v_left > 0 AND t.from_seq < coalesce(v_held, t.head_seq + 1) THEN
            lacks_dialog := t.dialog_id;
            lacks_first := t.from_seq;
            lacks_last := coalesce(v_held - 1, t.head_seq);
            v_due_ms := p_now_ms + ${PUT_BACK_AFTER_MS};
        END IF;
        UPDATE retention x SET from_seq = t.from_seq, due_ms = CASE WHEN v_left > 0 THEN v_due_ms ELSE x.due_ms END
        WHERE x.dialog_id = t.dialog_id;
        v_left := v_left - 1;
        EXIT WHEN v_left <= 0 OR lacks_dialog IS NOT NULL;
    END LOOP;
    rows := p_limit - greatest(v_left, 0);
END $$;
