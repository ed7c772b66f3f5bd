-- Whether the author may bring these principals, all different, into a dialog: OK, or the code of the refusal. With
-- `p_asks` those whom they do not know must have agreed (`judge_consent`). The order counts: see `judge_room`.
CREATE FUNCTION judge_additions(
    p_tenant smallint, p_author uuid, p_subjects uuid[], p_asks boolean, p_over_daily_limit boolean
) RETURNS smallint
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    v_code smallint := judge_subjects(p_tenant, p_author, p_subjects);
BEGIN
    IF v_code = ${VerdictCode.OK} AND p_asks THEN
        v_code := judge_consent(p_author, p_subjects);
    END IF;
    RETURN CASE
        WHEN v_code <> ${VerdictCode.OK} THEN v_code
        WHEN p_over_daily_limit THEN ${VerdictCode.DAILY_LIMIT}
        ELSE judge_room(p_subjects) END;
END $$;
