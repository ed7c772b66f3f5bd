-- The state after a step; null if the step is none in this state.
CREATE FUNCTION next_intent_state(p_state smallint, p_step smallint) RETURNS smallint
LANGUAGE sql IMMUTABLE
AS $$ SELECT CASE p_state * 100 + p_step ${intent_table.next} END::smallint $$;
