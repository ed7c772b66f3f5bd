-- Objects of a gateway to fetch, at most so many, for so long; what a clock that was ahead has put off, too.
CREATE FUNCTION claim_hints(p_gateway text, p_limit int, p_lease_us bigint) RETURNS SETOF gateway_hints
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_now_us bigint := clock_us();
BEGIN
    UPDATE gateway_hints h SET due_us = v_now_us
    FROM (SELECT d.kind, d.object_id FROM gateway_hints d
          WHERE d.gateway = p_gateway AND d.due_us > v_now_us + 2 * ${GATEWAY_PAUSE_US}
          ORDER BY d.due_us LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED) late
    WHERE h.gateway = p_gateway AND h.kind = late.kind AND h.object_id = late.object_id;
    RETURN QUERY
    UPDATE gateway_hints h SET due_us = v_now_us + p_lease_us, failures = h.failures + 1
    FROM (SELECT d.kind, d.object_id FROM gateway_hints d WHERE d.gateway = p_gateway AND d.due_us <= v_now_us
          ORDER BY d.due_us LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED) due
    WHERE h.gateway = p_gateway AND h.kind = due.kind AND h.object_id = due.object_id
    RETURNING h.*;
END $$;
