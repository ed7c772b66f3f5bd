-- Whether the author may bring these principals, all different, into a dialog: OK, or the code of the refusal.
CREATE FUNCTION judge_subjects(p_tenant smallint, p_author uuid, p_subjects uuid[]) RETURNS smallint
LANGUAGE sql STABLE
AS $$
    SELECT (CASE
        -- A filter, not a condition: a plan made while `principals` was small would look the tenant up, not the ids.
        WHEN (SELECT count(*) FILTER (WHERE p.tenant_id = p_tenant AND p.status <> ${PrincipalStatus.DELETED}
                                        AND p.type <> ${PrincipalType.SERVICE})
              FROM principals p WHERE p.principal_id = ANY (p_subjects)
             ) < cardinality(p_subjects) THEN ${VerdictCode.PRINCIPAL_NOT_FOUND}
        WHEN EXISTS (SELECT 1 FROM blocks b WHERE b.blocked_id = p_author AND b.blocker_id = ANY (p_subjects))
          OR EXISTS (SELECT 1 FROM blocks b WHERE b.blocker_id = p_author AND b.blocked_id = ANY (p_subjects))
            THEN ${VerdictCode.BLOCKED}
        ELSE ${VerdictCode.OK} END)::smallint
$$;
