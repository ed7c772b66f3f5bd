-- Give a person a role in a business, or take it (`p_role` null). A business keeps an owner: LAST_OWNER.
CREATE FUNCTION set_staff(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_business uuid, p_person uuid, p_role smallint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v_outcome smallint := ${StepOutcome.DONE};
    v_version int;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    IF NOT lock_living(p_tenant, p_person) AND p_role IS NOT NULL THEN
        v_outcome := ${StepOutcome.PERSON_ERASED};
    END IF;
    SELECT b.version INTO v_version FROM businesses b
    WHERE b.business_id = p_business AND b.tenant_id = p_tenant FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        v_outcome := ${StepOutcome.BUSINESS_NOT_FOUND};
    ELSIF v_outcome <> ${StepOutcome.DONE} THEN
        NULL;
    ELSIF p_role IS DISTINCT FROM ${StaffRole.OWNER}
          AND EXISTS (SELECT FROM staff s WHERE s.business_id = p_business AND s.person_id = p_person
                                            AND s.role = ${StaffRole.OWNER})
          AND NOT EXISTS (SELECT FROM staff s WHERE s.business_id = p_business AND s.person_id <> p_person
                                                AND s.role = ${StaffRole.OWNER}) THEN
        v_outcome := ${StepOutcome.LAST_OWNER};
    ELSIF p_role IS NULL THEN
        DELETE FROM staff s WHERE s.business_id = p_business AND s.person_id = p_person;
    ELSE
        v_outcome := place_staff(p_tenant, p_business, p_person, p_role);
    END IF;
    RETURN close_shop_step(p_key, p_body, p_actor, p_tenant, 'set_staff', v_outcome, p_business, v_version,
                           concat_ws(' ', p_person, coalesce(p_role, 0)));
END $$;
