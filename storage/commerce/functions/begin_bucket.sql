-- Begin a bucket of a person's limit, and return its start.
--
-- It begins with the local day or month, but not before the last one ended (`p_last_us`), and ends at a local midnight or
-- first of a month, but lasts ${DAY_HOURS_MIN} hours or ${MONTH_DAYS_MIN} days at least: who changes their time zone gains
-- an hour or two of a day.
CREATE FUNCTION begin_bucket(p_person uuid, p_span smallint, p_timezone text, p_at_us bigint, p_last_us bigint)
RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_unit text := CASE p_span WHEN ${LimitSpan.DAY} THEN 'day' ELSE 'month' END;
    v_least interval := CASE p_span WHEN ${LimitSpan.DAY} THEN interval '${DAY_HOURS_MIN} hours'
                                    ELSE interval '${MONTH_DAYS_MIN} days' END;
    v_local timestamp := date_trunc(v_unit, to_timestamp(p_at_us / 1000000.0) AT TIME ZONE p_timezone);
    v_start timestamptz := greatest(v_local AT TIME ZONE p_timezone, to_timestamp(p_last_us / 1000000.0));
    v_end timestamptz;
    v_start_us bigint := (extract(epoch FROM v_start) * 1000000)::bigint;
BEGIN
    v_local := date_trunc(v_unit, (v_start + v_least) AT TIME ZONE p_timezone);
    v_end := v_local AT TIME ZONE p_timezone;
    IF v_end < v_start + v_least THEN
        v_end := (v_local + ('1 ' || v_unit)::interval) AT TIME ZONE p_timezone;
    END IF;
    INSERT INTO limit_use (person_id, span, starts_us, ends_us, used)
    VALUES (p_person, p_span, v_start_us, (extract(epoch FROM v_end) * 1000000)::bigint, 0);
    RETURN v_start_us;
END $$;
