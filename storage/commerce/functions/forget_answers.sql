-- What was answered `p_age_us` ago is forgotten but for its key and its outcome: ids, at most `p_limit` of them at once. How
-- many.
CREATE FUNCTION forget_answers(p_age_us bigint, p_limit int) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_forgotten int;
    v_before_us bigint := clock_us() - p_age_us;
BEGIN
    IF NOT books_serve() THEN
        RETURN 0;
    END IF;
    WITH old AS (
        SELECT k.key_id FROM keys k WHERE k.at_us < v_before_us AND k.subject IS NOT NULL
        ORDER BY k.at_us LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
    )
    UPDATE keys k SET subject = NULL, version = NULL, detail = NULL FROM old WHERE k.key_id = old.key_id;
    GET DIAGNOSTICS v_forgotten = ROW_COUNT;
    RETURN v_forgotten;
END $$;
