-- Note how a call ended, while its lease holds: the step, or null for none; when it is due again, null if never. False if
-- somebody else has it now, who asks again.
CREATE FUNCTION settle_intent(
    p_tenant smallint, p_gateway text, p_intent uuid, p_lease int, p_step smallint, p_object text, p_qr text,
    p_expires_us bigint, p_reason text, p_pause_us bigint
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v intents%ROWTYPE;
    v_next smallint;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(${PERIOD_LOCKS}, 0);
    v := lock_intent(p_tenant, p_gateway, p_intent);
    IF v.lease IS DISTINCT FROM p_lease THEN
        RETURN false;
    END IF;
    v_next := next_intent_state(v.state, p_step);
    IF p_step = ${IntentStep.FAIL} AND v_next IS NOT NULL THEN
        PERFORM fail_intent(v, p_reason);
        RETURN true;
    END IF;
    UPDATE intents SET state = coalesce(v_next, state), object_id = coalesce(p_object, object_id), qr = coalesce(p_qr, qr),
        expires_us = coalesce(p_expires_us, expires_us), reason = coalesce(p_reason, reason),
        failures = CASE WHEN p_pause_us IS NULL THEN 0 ELSE failures + 1 END,
        due_us = CASE WHEN coalesce(v_next, state) = ${IntentState.PENDING} THEN clock_us() + ${GATEWAY_PAUSE_US}
                      WHEN state IN (${IntentState.WRITTEN}, ${IntentState.UNKNOWN})
                      THEN clock_us() + least(p_pause_us, ${GATEWAY_PAUSE_US}) END
    WHERE intent_id = p_intent;
    RETURN true;
END $$;
