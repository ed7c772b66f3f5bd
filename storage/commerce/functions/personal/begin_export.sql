-- Begin an export of all that a person has here, sealed under their profile key `p_key_id`; the one that they have, while
-- it is not past. AGAIN: the key was erased meanwhile.
CREATE FUNCTION begin_export(
    p_key uuid, p_body bytea, p_tenant smallint, p_person uuid, p_export uuid, p_key_id uuid, p_life_us bigint, p_begin text
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v_now_us bigint;
    v_before uuid;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    PERFORM lock_person(p_person);
    v_now_us := clock_us();
    -- All in the result: else the planner may read the whole index of keys that are not erased.
    IF (SELECT k.person_id = p_person AND k.tenant_id = p_tenant AND k.erased_us IS NULL
        FROM personal_keys k WHERE k.key_id = p_key_id) IS NOT TRUE THEN
        RETURN (${StepOutcome.AGAIN}, NULL, NULL, NULL)::answer;
    END IF;
    SELECT e.export_id INTO v_before FROM exports e
    WHERE e.tenant_id = p_tenant AND e.person_id = p_person AND e.expires_us > v_now_us;
    IF FOUND THEN
        RETURN close_step(p_key, p_body, v_now_us, ${StepOutcome.DONE}::smallint, v_before, NULL, NULL);
    END IF;
    DELETE FROM export_parts p USING exports e
    WHERE e.tenant_id = p_tenant AND e.person_id = p_person AND p.export_id = e.export_id;
    DELETE FROM exports e WHERE e.tenant_id = p_tenant AND e.person_id = p_person;
    INSERT INTO exports (export_id, tenant_id, person_id, key_id, at_us, expires_us, reached, look_us)
    VALUES (p_export, p_tenant, p_person, p_key_id, v_now_us, v_now_us + p_life_us, p_begin, v_now_us);
    PERFORM note_audit(p_tenant, 'begin_export', p_person, p_export, '');
    RETURN close_step(p_key, p_body, v_now_us, ${StepOutcome.DONE}::smallint, p_export, NULL, NULL);
END $$;
