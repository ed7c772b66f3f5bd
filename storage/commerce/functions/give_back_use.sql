-- Give back to the buckets that were charged, whichever hold now. The person's row is locked.
CREATE FUNCTION give_back_use(p_person uuid, p_day_us bigint, p_month_us bigint, p_part bigint) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    UPDATE limit_use u SET used = u.used - p_part
    WHERE u.person_id = p_person AND u.span = ${LimitSpan.DAY} AND u.starts_us = p_day_us;
    UPDATE limit_use u SET used = u.used - p_part
    WHERE u.person_id = p_person AND u.span = ${LimitSpan.MONTH} AND u.starts_us = p_month_us
$$;
