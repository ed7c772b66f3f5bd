-- All changes before a time are applied, and the turn is over for `p_pause_us`; false if somebody else has it.
CREATE FUNCTION move_cursor(p_gateway text, p_lease int, p_read_ms bigint, p_pause_us bigint) RETURNS boolean
LANGUAGE sql VOLATILE
AS $$
    WITH moved AS (
        UPDATE gateway_cursors SET read_ms = greatest(read_ms, p_read_ms), due_us = clock_us() + p_pause_us
        WHERE gateway = p_gateway AND lease = p_lease RETURNING 1
    )
    SELECT EXISTS (SELECT FROM moved)
$$;
