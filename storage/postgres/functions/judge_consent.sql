-- Whether the author may bring these people into a dialog without asking them: OK, or CONSENT_REQUIRED. People decide
-- that by `who_may_add`; others (bots, businesses) and the author need not be asked.
CREATE FUNCTION judge_consent(p_author uuid, p_subjects uuid[]) RETURNS smallint
LANGUAGE sql STABLE
AS $$
    SELECT (CASE
        WHEN EXISTS (
            SELECT 1 FROM people x CROSS JOIN deployment d
            WHERE x.principal_id = ANY (p_subjects) AND x.principal_id <> p_author
              AND CASE coalesce(x.who_may_add, d.who_may_add)
                      WHEN ${WhoMayAdd.EVERYBODY} THEN false
                      WHEN ${WhoMayAdd.KNOWN} THEN NOT EXISTS (
                          SELECT 1 FROM contacts c WHERE c.principal_id = x.principal_id AND c.other_id = p_author)
                      ELSE true END)
            THEN ${VerdictCode.CONSENT_REQUIRED}
        ELSE ${VerdictCode.OK} END)::smallint
$$;
