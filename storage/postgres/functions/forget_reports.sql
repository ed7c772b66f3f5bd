-- Delete commitments and reports whose time is over, at most `p_limit` of each. Returns the larger of the two numbers.
CREATE FUNCTION forget_reports(p_now_ms bigint, p_limit int) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_commitments int;
    v_reports int;
BEGIN
    DELETE FROM erased_commitments WHERE ctid = ANY (ARRAY(
        SELECT e.ctid FROM erased_commitments e WHERE e.until_ms <= p_now_ms ORDER BY e.until_ms LIMIT p_limit));
    GET DIAGNOSTICS v_commitments = ROW_COUNT;
    DELETE FROM reports WHERE ctid = ANY (ARRAY(
        SELECT r.ctid FROM reports r WHERE r.until_ms <= p_now_ms ORDER BY r.until_ms LIMIT p_limit));
    GET DIAGNOSTICS v_reports = ROW_COUNT;
    RETURN greatest(v_commitments, v_reports);
END $$;
