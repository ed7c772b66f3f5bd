-- Whether a person may block or unblock that principal: another one of the tenant. OK, or the code of the refusal.
CREATE FUNCTION judge_other(p_tenant smallint, p_author uuid, p_principal uuid) RETURNS smallint
LANGUAGE sql STABLE
AS $$
    SELECT (CASE
        WHEN p_principal = p_author OR NOT EXISTS (
            SELECT 1 FROM principals p WHERE p.principal_id = p_principal AND p.tenant_id = p_tenant)
            THEN ${VerdictCode.PRINCIPAL_NOT_FOUND}
        ELSE ${VerdictCode.OK} END)::smallint
$$;
