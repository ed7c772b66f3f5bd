-- Erase a person in a tenant: their wallets are closed, their profile goes, the time of what the law wants kept begins. Refused
-- with STILL_OPEN, and what is open (`detail`); with ITEM_NOT_FOUND, when another asks and this tenant has nothing of them; who
-- was erased before is erased (the subject is that erasure).
CREATE FUNCTION begin_erasure(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_person uuid, p_erasure uuid
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v_before uuid;
    v_open int;
    v_now_us bigint;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    PERFORM lock_person(p_person);
    SELECT e.erasure_id INTO v_before FROM personal_erasures e WHERE e.person_id = p_person AND e.tenant_id = p_tenant;
    IF FOUND THEN
        RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.DONE}::smallint, v_before, NULL, NULL);
    ELSIF p_person = '${NIL}' OR p_actor <> p_person AND NOT is_known(p_tenant, p_person) THEN
        RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.ITEM_NOT_FOUND}::smallint, NULL, NULL, NULL);
    END IF;
    PERFORM lock_belongings(p_tenant, p_person);
    v_now_us := clock_us();
    v_open := list_open_money(p_tenant, p_person);
    IF v_open > 0 THEN
        RETURN close_step(p_key, p_body, v_now_us, ${StepOutcome.STILL_OPEN}::smallint, NULL, NULL, v_open);
    END IF;
    PERFORM close_person(p_tenant, p_person, p_erasure, v_now_us);
    PERFORM note_audit(p_tenant, 'begin_erasure', p_actor, p_person, '');
    RETURN close_step(p_key, p_body, v_now_us, ${StepOutcome.DONE}::smallint, p_erasure, NULL, NULL);
END $$;
