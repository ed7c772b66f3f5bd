-- The first two locks of a step, and the answer that its key has already: outcome null when there is none.
--
-- READ_ONLY, and nothing locked: the books were restored. The two conditions on the row are those of `books_serve`, which is
-- called when they do not hold: a call costs more than the row.
--
-- With another body than the first it is KEY_REUSED. The answer is read in a statement of its own, after the lock: it sees
-- what who held the lock has committed.
CREATE FUNCTION open_step(p_key uuid, p_body bytea) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_found record;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(${PERIOD_LOCKS}, 0), pg_advisory_xact_lock(uuid_hash_extended(p_key, 0))
    FROM book_history h
    WHERE h.only_row AND h.noticed_us IS NULL AND h.started_at = pg_postmaster_start_time() AND h.table_oid = h.tableoid;
    IF NOT FOUND THEN
        IF NOT books_serve() THEN
            RETURN (${StepOutcome.READ_ONLY}, NULL, NULL, NULL)::answer;
        END IF;
        PERFORM pg_advisory_xact_lock_shared(${PERIOD_LOCKS}, 0), pg_advisory_xact_lock(uuid_hash_extended(p_key, 0));
    END IF;
    SELECT k.body, k.outcome, k.subject, k.version, k.detail INTO v_found FROM keys k WHERE k.key_id = p_key;
    IF NOT FOUND THEN
        RETURN NULL;
    ELSIF v_found.body <> p_body THEN
        RETURN (${StepOutcome.KEY_REUSED}, NULL, NULL, NULL)::answer;
    END IF;
    RETURN (v_found.outcome, v_found.subject, v_found.version, v_found.detail)::answer;
END $$;
