-- Intents of a gateway that are due, at most so many, for so long. Until the lease has ended a call may be under way. What is
-- due later than any pause ends was put off by a clock that was ahead: it is due.
CREATE FUNCTION claim_intents(p_gateway text, p_limit int, p_lease_us bigint) RETURNS SETOF intents
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_now_us bigint := clock_us();
BEGIN
    IF NOT books_serve() THEN
        RETURN;
    END IF;
    UPDATE intents i SET due_us = v_now_us
    FROM (SELECT d.intent_id FROM intents d WHERE d.gateway = p_gateway AND d.due_us > v_now_us + 2 * ${GATEWAY_PAUSE_US}
          ORDER BY d.due_us LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED) late
    WHERE i.intent_id = late.intent_id;
    RETURN QUERY
    UPDATE intents i SET lease = i.lease + 1, due_us = v_now_us + p_lease_us,
        settled_us = CASE WHEN i.state = ${IntentState.WRITTEN} THEN v_now_us + p_lease_us ELSE i.settled_us END
    FROM (SELECT d.intent_id FROM intents d WHERE d.gateway = p_gateway AND d.due_us <= v_now_us
          ORDER BY d.due_us LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED) due
    WHERE i.intent_id = due.intent_id
    RETURNING i.*;
END $$;
