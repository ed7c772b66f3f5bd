-- Give a person a role in a business, which the caller has locked; both sides are bounded.
CREATE FUNCTION place_staff(p_tenant smallint, p_business uuid, p_person uuid, p_role smallint) RETURNS smallint
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    UPDATE staff s SET role = p_role WHERE s.business_id = p_business AND s.person_id = p_person;
    IF FOUND THEN
        RETURN ${StepOutcome.DONE};
    END IF;
    PERFORM pg_advisory_xact_lock(uuid_hash_extended(p_person, ${STAFF_LOCKS}));
    IF (SELECT count(*) FROM (SELECT FROM staff s WHERE s.business_id = p_business LIMIT ${STAFF_MAX}) x) >= ${STAFF_MAX}
       OR (SELECT count(*) FROM (SELECT FROM staff s WHERE s.person_id = p_person
                                 LIMIT ${BUSINESSES_OF_PERSON_MAX}) x) >= ${BUSINESSES_OF_PERSON_MAX} THEN
        RETURN ${StepOutcome.SHOP_BOUND};
    END IF;
    INSERT INTO staff (business_id, person_id, tenant_id, role, since_us)
    VALUES (p_business, p_person, p_tenant, p_role, clock_us());
    RETURN ${StepOutcome.DONE};
END $$;
