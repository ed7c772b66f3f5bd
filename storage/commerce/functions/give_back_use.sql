-- Give back to the buckets that were charged, wherever the person is now. The person's row is locked.
CREATE FUNCTION give_back_use(p_hold uuid, p_part bigint) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    UPDATE limit_use u SET used = u.used - p_part FROM holds h
    WHERE h.hold_id = p_hold AND u.person_id = h.person_id
      AND ((u.span = ${LimitSpan.DAY} AND u.starts_us = h.day_us)
        OR (u.span = ${LimitSpan.MONTH} AND u.starts_us = h.month_us))
$$;
