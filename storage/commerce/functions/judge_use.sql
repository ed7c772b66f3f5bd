-- Whether both limits of a person allow an amount, and the buckets that it is then counted in, begun if need be. The person's
-- row is locked.
CREATE FUNCTION judge_use(
    p_person uuid, p_amount bigint, p_at_us bigint, OUT fits boolean, OUT day_us bigint, OUT month_us bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v record;
BEGIN
    SELECT w.timezone, w.day_max, w.month_max, d.starts_us AS day_us, d.ends_us AS day_ends_us, d.used AS day_used,
           m.starts_us AS month_us, m.ends_us AS month_ends_us, m.used AS month_used
    INTO STRICT v FROM persons w
    LEFT JOIN LATERAL (SELECT u.* FROM limit_use u WHERE u.person_id = p_person AND u.span = ${LimitSpan.DAY}
                       ORDER BY u.starts_us DESC LIMIT 1) d ON true
    LEFT JOIN LATERAL (SELECT u.* FROM limit_use u WHERE u.person_id = p_person AND u.span = ${LimitSpan.MONTH}
                       ORDER BY u.starts_us DESC LIMIT 1) m ON true
    WHERE w.person_id = p_person;
    day_us := v.day_us;
    month_us := v.month_us;
    IF (p_at_us < v.day_ends_us) IS NOT TRUE THEN
        v.day_used := 0;
        day_us := NULL;
    END IF;
    IF (p_at_us < v.month_ends_us) IS NOT TRUE THEN
        v.month_used := 0;
        month_us := NULL;
    END IF;
    fits := v.day_used + p_amount <= coalesce(v.day_max, ${BALANCE_MAX})
        AND v.month_used + p_amount <= coalesce(v.month_max, ${BALANCE_MAX});
    IF NOT fits THEN
        RETURN;
    END IF;
    IF day_us IS NULL THEN
        day_us := begin_bucket(p_person, ${LimitSpan.DAY}::smallint, v.timezone, p_at_us, v.day_ends_us);
    END IF;
    IF month_us IS NULL THEN
        month_us := begin_bucket(p_person, ${LimitSpan.MONTH}::smallint, v.timezone, p_at_us, v.month_ends_us);
    END IF;
END $$;
