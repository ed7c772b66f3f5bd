-- The step of an intent that an effect is, with the kind of the intent: kind * 100 + step; null of a chargeback.
CREATE FUNCTION step_of_effect(p_effect smallint) RETURNS int
LANGUAGE sql IMMUTABLE
AS $$ SELECT CASE p_effect ${intent_table.step} END $$;
