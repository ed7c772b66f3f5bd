-- The state to which an event leads an order; null: it cannot happen now. The table is that of Python.
CREATE FUNCTION next_order_state(p_state smallint, p_event smallint) RETURNS smallint
LANGUAGE sql IMMUTABLE
AS $$
    SELECT t.after::smallint FROM (VALUES ${order_table.states}) t(state, event, after)
    WHERE t.state = p_state AND t.event = p_event
$$;
