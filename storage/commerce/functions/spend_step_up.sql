-- Spend a step-up for the request with this key; whether it is this request's. Some of those that ended are forgotten.
CREATE FUNCTION spend_step_up(p_step_up uuid, p_key uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM refuse_restored();
    DELETE FROM spent_step_ups WHERE step_up_id = ANY (ARRAY(
        SELECT s.step_up_id FROM spent_step_ups s WHERE s.spent_us < clock_us() - ${STEP_UP_KEPT_US}
        ORDER BY s.spent_us LIMIT 10 FOR UPDATE SKIP LOCKED));
    INSERT INTO spent_step_ups VALUES (p_step_up, p_key, clock_us()) ON CONFLICT DO NOTHING;
    RETURN (SELECT s.key_id = p_key FROM spent_step_ups s WHERE s.step_up_id = p_step_up);
END $$;
