-- Whether the author, who has `p_role`, may change the membership of somebody: OK, or the code of the refusal.
-- `p_member_role` is null if that somebody is no member (`role_of_member`).
CREATE FUNCTION judge_over_member(p_fixed_roster boolean, p_role smallint, p_member_role smallint) RETURNS smallint
LANGUAGE sql IMMUTABLE
AS $$
    SELECT (CASE
        WHEN p_fixed_roster THEN ${VerdictCode.FIXED_ROSTER}
        WHEN p_role <> ${Role.ADMIN} THEN ${VerdictCode.ROLE_REQUIRED}
        WHEN p_member_role IS NULL THEN ${VerdictCode.NOT_MEMBER}
        ELSE ${VerdictCode.OK} END)::smallint
$$;
