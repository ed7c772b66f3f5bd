-- Delete `p_limit` parts of exports that are past at most, and the exports that have none left. How many parts.
CREATE FUNCTION end_exports(p_limit int) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_past uuid[] := ARRAY(SELECT e.export_id FROM exports e WHERE e.expires_us < (SELECT clock_us())
                           ORDER BY e.expires_us LIMIT p_limit);
    v_ended int;
BEGIN
    DELETE FROM export_parts p USING (
        SELECT x.export_id, x.part FROM export_parts x WHERE x.export_id = ANY (v_past) LIMIT p_limit) d
    WHERE p.export_id = d.export_id AND p.part = d.part;
    GET DIAGNOSTICS v_ended = ROW_COUNT;
    DELETE FROM exports e WHERE e.export_id = ANY (v_past)
      AND NOT EXISTS (SELECT FROM export_parts p WHERE p.export_id = e.export_id);
    RETURN v_ended;
END $$;
