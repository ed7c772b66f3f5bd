-- Take the turn to read the changes of a gateway, for so long; null if somebody has it. A new gateway begins `p_since_ms`;
-- in restored books it may be new to them only, and begins before the newest thing that they know.
CREATE FUNCTION claim_cursor(p_gateway text, p_since_ms bigint, p_lease_us bigint) RETURNS gateway_cursors
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v gateway_cursors%ROWTYPE;
BEGIN
    p_since_ms := (SELECT least(p_since_ms, CASE WHEN h.noticed_us IS NOT NULL
                                                THEN greatest(h.known_us / 1000 - ${GATEWAY_MARGIN_MS}, 0) END)
                   FROM book_history h);
    INSERT INTO gateway_cursors (gateway, read_ms, due_us) VALUES (p_gateway, p_since_ms, 0) ON CONFLICT DO NOTHING;
    UPDATE gateway_cursors SET lease = lease + 1, due_us = clock_us() + p_lease_us
    WHERE gateway = p_gateway AND (due_us <= clock_us() OR due_us > clock_us() + 2 * ${GATEWAY_PAUSE_US}) RETURNING * INTO v;
    RETURN v;
END $$;
