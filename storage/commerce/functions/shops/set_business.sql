-- A new business with its owner (`p_version` null), or what it says of itself now. CHANGED: it has another version.
CREATE FUNCTION set_business(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_business uuid, p_version int, p_name text, p_description text,
    p_currencies text[], p_status smallint, p_owner uuid
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
    IF p_version IS NULL AND NOT lock_living(p_tenant, p_owner) THEN
        v_outcome := ${StepOutcome.PERSON_ERASED};
    ELSIF p_version IS NULL THEN
        INSERT INTO businesses AS b (business_id, tenant_id, name, description, currencies, status, version, moved_us)
        VALUES (p_business, p_tenant, p_name, p_description, p_currencies, p_status, 1, clock_us())
        ON CONFLICT DO NOTHING RETURNING b.version INTO v_version;
        IF FOUND THEN
            v_outcome := place_staff(p_tenant, p_business, p_owner, ${StaffRole.OWNER}::smallint);
        END IF;
        IF v_outcome <> ${StepOutcome.DONE} THEN
            DELETE FROM businesses b WHERE b.business_id = p_business;
        END IF;
    ELSE
        UPDATE businesses b SET name = p_name, description = p_description, currencies = p_currencies, status = p_status,
            version = b.version + 1, moved_us = greatest(clock_us(), b.moved_us)
        WHERE b.business_id = p_business AND b.tenant_id = p_tenant AND b.version = p_version RETURNING b.version INTO v_version;
    END IF;
    IF v_outcome = ${StepOutcome.DONE} AND v_version IS NULL THEN
        v_outcome := ${StepOutcome.CHANGED};
    END IF;
    RETURN close_shop_step(p_key, p_body, p_actor, p_tenant, 'set_business', v_outcome, p_business, v_version,
                           p_status::text);
END $$;
