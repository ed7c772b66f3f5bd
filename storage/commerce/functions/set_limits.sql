-- A person's limits and time zone, in place of those that they had; null: no limit. WALLET_NOT_FOUND without a wallet.
CREATE FUNCTION set_limits(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_person uuid, p_timezone text, p_day_max bigint,
    p_month_max bigint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    UPDATE persons SET timezone = p_timezone, day_max = p_day_max, month_max = p_month_max
    WHERE person_id = p_person AND tenant_id = p_tenant;
    IF NOT FOUND THEN
        RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.WALLET_NOT_FOUND}::smallint, NULL, NULL, NULL);
    END IF;
    PERFORM note_audit(p_tenant, 'set_limits', p_actor, p_person, concat_ws(' ', p_timezone, p_day_max, p_month_max));
    RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.DONE}::smallint, p_person, 1, NULL);
END $$;
