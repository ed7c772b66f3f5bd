-- The body of a change by which these become members, with their device logs in its last field, `logs`, which is empty so
-- far; unchanged in an open dialog, and when nobody has a log.
--
-- What a log is here stays so until the commit: `append_device_log` waits for it, so what is announced later is newer.
CREATE FUNCTION fill_logs(p_mode smallint, p_members uuid[], p_body bytea, p_fields jsonb) RETURNS bytea
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_logs bytea;
    v_count int := cardinality(p_members);
BEGIN
    IF p_mode <> ${Mode.SEALED} OR p_fields -> 'logs' IS DISTINCT FROM '[]' THEN
        RETURN p_body;  -- a node of an older version does not know the field
    END IF;
    PERFORM FROM principals p WHERE p.principal_id = ANY (p_members) ORDER BY p.principal_id FOR SHARE;
    SELECT string_agg('\x93'::bytea || pack_uint(coalesce(i.generation, 0)) || pack_uint(coalesce(i.length, 0))
                      || '\xc4'::bytea || substr(int4send(length(coalesce(i.head, ''))), 4) || coalesce(i.head, ''),
                      '' ORDER BY m.nth)
    INTO v_logs
    FROM unnest(p_members) WITH ORDINALITY AS m(principal_id, nth)
    LEFT JOIN identities i ON i.principal_id = m.principal_id AND i.length > 0
    HAVING count(i.length) > 0;
    RETURN CASE
        WHEN v_logs IS NULL THEN p_body
        ELSE substr(p_body, 1, length(p_body) - 1)
            || CASE WHEN v_count < 16 THEN substr(int4send(144 + v_count), 4)
                    ELSE '\xdc'::bytea || substr(int4send(v_count), 3) END
            || v_logs END;
END $$;
