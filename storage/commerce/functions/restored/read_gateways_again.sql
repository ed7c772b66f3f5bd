-- Have the changes of all gateways read again from before the newest thing that the books know. Whoever reads them loses
-- their turn. An effect that the books have is not applied again.
CREATE FUNCTION read_gateways_again(p_known_us bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    IF to_regclass('gateway_cursors') IS NOT NULL THEN
        UPDATE gateway_cursors c
        SET read_ms = least(c.read_ms, greatest(p_known_us / 1000 - ${GATEWAY_MARGIN_MS}, 0)), lease = c.lease + 1, due_us = 0;
    END IF;
END $$;
