-- An admin ends an intent that its gateway never ends, a day after it was written: what was held returns. What the gateway
-- pays for it all the same is in suspense. NO_INTENT if there is none, it is younger, or it has ended.
CREATE FUNCTION end_intent(p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_intent uuid) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v intents%ROWTYPE;
    v_at_us bigint;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    v := lock_intent(p_tenant, (SELECT i.gateway FROM intents i WHERE i.intent_id = p_intent), p_intent);
    IF next_intent_state(v.state, ${IntentStep.FAIL}::smallint) IS NULL OR v.written_us > clock_us() - ${INTENT_STALE_US} THEN
        RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.NO_INTENT}::smallint, NULL, NULL, NULL);
    END IF;
    v_at_us := fail_intent(v, 'ended_by_admin');
    PERFORM note_audit(p_tenant, 'end_intent', p_actor, p_intent, concat_ws(' ', v.gateway, v.amount, v.currency));
    RETURN close_step(p_key, p_body, v_at_us, ${StepOutcome.DONE}::smallint, p_intent, NULL, NULL);
END $$;
