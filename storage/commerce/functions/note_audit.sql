-- A line of the audit: who did what, with which account, chain or setting. Steps of payments have `payment_versions`.
CREATE FUNCTION note_audit(p_tenant smallint, p_action text, p_actor uuid, p_subject uuid, p_detail text) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    INSERT INTO audit (at_us, tenant_id, action, actor_id, subject_id, detail)
    VALUES (clock_us(), p_tenant, p_action, p_actor, p_subject, p_detail)
$$;
