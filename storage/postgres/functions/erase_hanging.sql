-- Blank edits and reactions of erased messages: about `p_limit` rows. Returns how much it did; below `p_limit`, that
-- was all. The lock: see `erase_message`.
CREATE FUNCTION erase_hanging(p_now_ms bigint, p_limit int) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    e erasures%ROWTYPE;
    v_left int := p_limit;
    v_last bigint;
    v_blanked int;
BEGIN
    LOCK TABLE archive_erasures IN ROW EXCLUSIVE MODE;
    FOR e IN SELECT * FROM erasures x WHERE x.due_ms <= p_now_ms ORDER BY x.due_ms LIMIT p_limit LOOP
        SELECT max(h.seq), count(*) INTO v_last, v_blanked FROM (
            SELECT j.seq FROM journal j
            WHERE j.dialog_id = e.dialog_id AND j.target = e.target AND j.seq > e.done_seq
              AND j.tag IN (${tag.Edited}, ${tag.Reacted})
            ORDER BY j.seq LIMIT v_left) h;
        PERFORM copy_commitment(j.dialog_id, j.seq, p_now_ms) FROM journal j
        WHERE j.dialog_id = e.dialog_id AND j.target = e.target AND j.seq > e.done_seq AND j.seq <= v_last
          AND j.tag IN (${tag.Edited}, ${tag.Reacted})
          AND EXISTS (SELECT FROM heads h WHERE h.dialog_id = e.dialog_id AND h.mode = ${Mode.SEALED});
        WITH blanked AS (
            UPDATE journal j SET body = ${packed.Erased}, tag = ${tag.Erased}
            WHERE j.dialog_id = e.dialog_id AND j.target = e.target AND j.seq > e.done_seq AND j.seq <= v_last
              AND j.tag IN (${tag.Edited}, ${tag.Reacted})
            RETURNING j.seq)
        INSERT INTO archive_erasures SELECT e.dialog_id, b.seq FROM blanked b, archiving ON CONFLICT DO NOTHING;
        IF v_blanked < v_left THEN
            -- It was being put back from the archive at the moment of its erasure.
            PERFORM copy_commitment(e.dialog_id, e.target, p_now_ms);
            UPDATE journal j SET body = ${packed.Erased}, tag = ${tag.Erased}
            WHERE j.dialog_id = e.dialog_id AND j.seq = e.target
              AND j.tag IN (${tag.Posted}, ${tag.Edited}, ${tag.Reacted});
            DELETE FROM erasures x WHERE x.dialog_id = e.dialog_id AND x.target = e.target;
        ELSE
            UPDATE erasures x SET done_seq = v_last WHERE x.dialog_id = e.dialog_id AND x.target = e.target;
        END IF;
        v_left := v_left - v_blanked - 1;
        EXIT WHEN v_left <= 0;
    END LOOP;
    RETURN p_limit - greatest(v_left, 0);
END $$;
