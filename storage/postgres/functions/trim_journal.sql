-- One step of a sweep: delete from the next `p_blocks` blocks of the journal what is older than `p_kept_ms` and is needed
-- in the archive only. `done`: the sweep is at its end, or there is nothing to do for this caller.
--
-- It takes no lock but those of the rows that it deletes. A row that is changed meanwhile has moved, so it stays; an
-- erasure that comes too late for it is noted for the archive by who erases.
CREATE FUNCTION trim_journal(p_now_ms bigint, p_kept_ms bigint, p_blocks bigint, OUT rows int, OUT done boolean)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_moved xid8;
    v_first bigint;
    v_newest xid8;
BEGIN
    rows := 0;
    done := true;
    IF NOT pg_try_advisory_xact_lock(${TRIMMER_LOCK_KEY}) THEN
        RETURN;
    END IF;
    SELECT a.moved INTO v_moved FROM archiving a;
    SELECT t.next_block INTO v_first FROM trimming t;
    WITH old AS MATERIALIZED (
        SELECT j.dialog_id, j.seq, j.ctid AS place FROM journal j
        WHERE j.ctid >= format('(%s,0)', v_first)::tid AND j.ctid < format('(%s,0)', v_first + p_blocks)::tid
          AND j.xid < v_moved AND j.at_ms < p_now_ms - p_kept_ms
          AND j.tag IN (${tag.Posted}, ${tag.Edited}, ${tag.Reacted}, ${tag.Erased})
          -- What has a time of its own waits for it here, and so does what a retention goes through.
          AND (j.tag = ${tag.Erased} OR j.expires_at_ms IS NULL)
          AND (j.tag <> ${tag.Posted} OR coalesce(kept_until(j.body, j.at_ms), 0) <= p_now_ms)
          -- What hangs on a message leaves after it: so who erases the message finds it.
          AND (j.tag NOT IN (${tag.Edited}, ${tag.Reacted})
               OR NOT EXISTS (SELECT FROM journal t WHERE t.dialog_id = j.dialog_id AND t.seq = j.target))
          AND NOT EXISTS (SELECT FROM retention t WHERE t.dialog_id = j.dialog_id AND t.from_seq <= j.seq)
          -- An erasure is not over while something may still hang on it, or the archive does not know of it.
          AND NOT EXISTS (SELECT FROM erasures e WHERE e.dialog_id = j.dialog_id AND e.target IN (j.seq, j.target))
          AND NOT EXISTS (SELECT FROM archive_erasures e WHERE e.dialog_id = j.dialog_id AND e.seq = j.seq)
          AND NOT EXISTS (SELECT FROM put_back b WHERE b.dialog_id = j.dialog_id AND b.seq = j.seq
                                                   AND b.at_ms > p_now_ms - ${DAY_MS})
    ), forgotten AS (
        DELETE FROM put_back b USING old o WHERE b.dialog_id = o.dialog_id AND b.seq = o.seq
    ), deleted AS (
        DELETE FROM journal j USING old o WHERE j.ctid = o.place RETURNING j.xid, j.tag, j.device_id, j.n
    ), noted AS (
        INSERT INTO left_numbers
        SELECT DISTINCT d.device_id, d.n - d.n % ${NUMBERS_TOGETHER} FROM deleted d WHERE d.tag <> ${tag.Erased}
        ON CONFLICT DO NOTHING
    )
    SELECT count(*), max(d.xid) INTO rows, v_newest FROM deleted d;
    done := (v_first + p_blocks) * current_setting('block_size')::bigint >= pg_relation_size('journal');
    UPDATE trimming SET next_block = CASE WHEN done THEN 0 ELSE v_first + p_blocks END,
                        newest = greatest(newest, v_newest);
END $$;
