-- Whether these people may be in one more dialog: OK, or DIALOGS_BOUND.
--
-- It counts up to `dialogs_per_person_max` rows of each, so it is asked last: only of people who agree to be brought in,
-- and of an author who may still add people today. A stranger's dialogs are never counted.
CREATE FUNCTION judge_room(p_subjects uuid[]) RETURNS smallint
LANGUAGE sql STABLE
AS $$
    SELECT (CASE
        WHEN EXISTS (
            SELECT 1 FROM people x CROSS JOIN deployment d WHERE x.principal_id = ANY (p_subjects) AND EXISTS (
                SELECT 1 FROM members m WHERE m.principal_id = x.principal_id AND m.member
                OFFSET d.dialogs_per_person_max - 1))
            THEN ${VerdictCode.DIALOGS_BOUND}
        ELSE ${VerdictCode.OK} END)::smallint
$$;
