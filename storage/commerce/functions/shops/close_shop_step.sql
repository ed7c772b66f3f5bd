-- Keep the answer of a step of a shop; one that is done has its line in the audit.
CREATE FUNCTION close_shop_step(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_action text, p_outcome smallint, p_subject uuid, p_version int,
    p_detail text
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_at_us bigint := clock_us();
BEGIN
    IF p_outcome <> ${StepOutcome.DONE} THEN
        RETURN close_step(p_key, p_body, v_at_us, p_outcome, NULL, NULL, NULL);
    END IF;
    INSERT INTO audit (at_us, tenant_id, action, actor_id, subject_id, detail)
    VALUES (v_at_us, p_tenant, p_action, p_actor, p_subject, coalesce(p_detail, ''));
    RETURN close_step(p_key, p_body, v_at_us, p_outcome, p_subject, p_version, NULL);
END $$;
