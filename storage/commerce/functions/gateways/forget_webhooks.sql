-- Delete bodies of webhooks from before a time, at most so many; how many there were.
CREATE FUNCTION forget_webhooks(p_before_us bigint, p_limit int) RETURNS int
LANGUAGE sql VOLATILE
AS $$
    WITH gone AS (
        DELETE FROM webhook_bodies WHERE body_id = ANY (ARRAY(
            SELECT b.body_id FROM webhook_bodies b WHERE b.at_us < p_before_us ORDER BY b.at_us LIMIT p_limit))
        RETURNING 1
    )
    SELECT count(*)::int FROM gone
$$;
