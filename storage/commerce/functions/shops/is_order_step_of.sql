-- Whether this side of an order may ask for this step in this state. The table is that of Python.
CREATE FUNCTION is_order_step_of(p_party smallint, p_state smallint, p_event smallint) RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$
    SELECT EXISTS (SELECT FROM (VALUES ${order_table.steps}) t(party, state, event)
                   WHERE t.party = p_party AND t.state = p_state AND t.event = p_event)
$$;
