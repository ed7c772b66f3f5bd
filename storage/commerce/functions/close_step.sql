-- Keep the final answer of a step under its key, and return it.
CREATE FUNCTION close_step(
    p_key uuid, p_body bytea, p_at_us bigint, p_outcome smallint, p_subject uuid, p_version int, p_detail bigint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    INSERT INTO keys (key_id, body, at_us, outcome, subject, version, detail)
    VALUES (p_key, p_body, p_at_us, p_outcome, p_subject, p_version, p_detail);
    RETURN (p_outcome, p_subject, p_version, p_detail)::answer;
END $$;
