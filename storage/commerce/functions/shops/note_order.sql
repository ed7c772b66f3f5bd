-- An event has happened to an order, which the caller has locked: its new state, and its line of the audit.
CREATE FUNCTION note_order(p_order uuid, p_event smallint, p_state smallint, p_actor uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v orders%ROWTYPE;
BEGIN
    UPDATE orders o SET state = p_state, version = o.version + 1, moved_us = greatest(clock_us(), o.moved_us)
    WHERE o.order_id = p_order RETURNING o.* INTO STRICT v;
    INSERT INTO order_versions (order_id, version, at_us, event, state, actor_id)
    VALUES (p_order, v.version, v.moved_us, p_event, p_state, p_actor);
END $$;
