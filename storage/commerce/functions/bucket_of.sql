-- The bucket of a person's limit that holds at a time: the last one until it ends, then a new one.
--
-- A new one begins with the local day or month, but not before the last one ended, and ends at a local midnight or first of
-- a month, but lasts ${DAY_HOURS_MIN} hours or ${MONTH_DAYS_MIN} days at least: who changes their time zone gains nothing.
CREATE FUNCTION bucket_of(
    p_person uuid, p_span smallint, p_timezone text, p_at_us bigint,
    OUT starts_us bigint, OUT ends_us bigint, OUT used bigint, OUT is_new boolean
)
LANGUAGE plpgsql STABLE
AS $$
#variable_conflict use_column
DECLARE
    v_unit text := CASE p_span WHEN ${LimitSpan.DAY} THEN 'day' ELSE 'month' END;
    v_least interval := CASE p_span WHEN ${LimitSpan.DAY} THEN interval '${DAY_HOURS_MIN} hours'
                                    ELSE interval '${MONTH_DAYS_MIN} days' END;
    v_start timestamptz;
    v_end timestamptz;
    v_local timestamp;
BEGIN
    SELECT u.starts_us, u.ends_us, u.used INTO starts_us, ends_us, used FROM limit_use u
    WHERE u.person_id = p_person AND u.span = p_span ORDER BY u.starts_us DESC LIMIT 1;
    is_new := ends_us IS NULL OR p_at_us >= ends_us;
    IF NOT is_new THEN
        RETURN;
    END IF;
    v_local := date_trunc(v_unit, to_timestamp(p_at_us / 1000000.0) AT TIME ZONE p_timezone);
    v_start := greatest(v_local AT TIME ZONE p_timezone, to_timestamp(ends_us / 1000000.0));
    v_local := date_trunc(v_unit, (v_start + v_least) AT TIME ZONE p_timezone);
    v_end := v_local AT TIME ZONE p_timezone;
    IF v_end < v_start + v_least THEN
        v_end := (v_local + ('1 ' || v_unit)::interval) AT TIME ZONE p_timezone;
    END IF;
    starts_us := (extract(epoch FROM v_start) * 1000000)::bigint;
    ends_us := (extract(epoch FROM v_end) * 1000000)::bigint;
    used := 0;
END $$;
