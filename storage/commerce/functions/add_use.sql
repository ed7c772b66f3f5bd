-- Count an amount in two buckets of a person, whichever hold now; below zero: give it back. The person's row is locked.
CREATE FUNCTION add_use(p_person uuid, p_day_us bigint, p_month_us bigint, p_amount bigint) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    UPDATE limit_use u SET used = u.used + p_amount
    FROM (VALUES (${LimitSpan.DAY}, p_day_us), (${LimitSpan.MONTH}, p_month_us)) b(span, starts_us)
    WHERE u.person_id = p_person AND u.span = b.span AND u.starts_us = b.starts_us
$$;
