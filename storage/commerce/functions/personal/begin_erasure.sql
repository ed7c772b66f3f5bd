-- Erase a person: their wallets are closed, their profile goes, the time of what the law wants kept begins. Refused with
-- STILL_OPEN, and what is open (`detail`); who was erased before is erased (the subject is that erasure).
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
    END IF;
    PERFORM FROM (SELECT a.account_id FROM accounts a WHERE a.owner_id = p_person AND a.slot = 0
                  ORDER BY a.account_id) w
    CROSS JOIN LATERAL (SELECT FROM accounts s WHERE s.account_id = w.account_id ORDER BY s.slot FOR NO KEY UPDATE) l;
    v_now_us := clock_us();
    v_open := list_open_money(p_tenant, p_person);
    IF v_open > 0 THEN
        RETURN close_step(p_key, p_body, v_now_us, ${StepOutcome.STILL_OPEN}::smallint, NULL, NULL, v_open);
    END IF;
    UPDATE accounts a SET status = ${AccountStatus.CLOSED} FROM accounts w
    WHERE w.owner_id = p_person AND w.slot = 0 AND w.tenant_id = p_tenant AND a.account_id = w.account_id;
    PERFORM erase_personal_key(k.key_id) FROM personal_keys k
    WHERE k.person_id = p_person AND k.key_kind = ${KeyKind.PROFILE} AND k.erased_us IS NULL;
    UPDATE personal_items i SET keep_until = v_now_us + i.keep_us
    WHERE i.person_id = p_person AND i.keep_until IS NULL AND i.keep_us IS NOT NULL;
    INSERT INTO personal_erasures (erasure_id, tenant_id, person_id, at_us)
    VALUES (p_erasure, p_tenant, p_person, v_now_us);
    PERFORM note_audit(p_tenant, 'begin_erasure', p_actor, p_person, '');
    RETURN close_step(p_key, p_body, v_now_us, ${StepOutcome.DONE}::smallint, p_erasure, NULL, NULL);
END $$;
