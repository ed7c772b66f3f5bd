-- Count what a person spends against both limits, if both allow it. The person's row is locked.
CREATE FUNCTION count_use(
    p_person uuid, p_amount bigint, p_at_us bigint, OUT fits boolean, OUT day_us bigint, OUT month_us bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_who persons%ROWTYPE;
    v_day record;
    v_month record;
BEGIN
    SELECT p.* INTO STRICT v_who FROM persons p WHERE p.person_id = p_person;
    SELECT b.* INTO v_day FROM bucket_of(p_person, ${LimitSpan.DAY}::smallint, v_who.timezone, p_at_us) b;
    SELECT b.* INTO v_month FROM bucket_of(p_person, ${LimitSpan.MONTH}::smallint, v_who.timezone, p_at_us) b;
    fits := coalesce(v_day.used + p_amount <= v_who.day_max, true)
        AND coalesce(v_month.used + p_amount <= v_who.month_max, true);
    IF NOT fits THEN
        RETURN;
    END IF;
    day_us := v_day.starts_us;
    month_us := v_month.starts_us;
    IF v_day.is_new THEN
        INSERT INTO limit_use (person_id, span, starts_us, ends_us, used)
        VALUES (p_person, ${LimitSpan.DAY}, day_us, v_day.ends_us, p_amount);
    ELSE
        UPDATE limit_use u SET used = u.used + p_amount
        WHERE u.person_id = p_person AND u.span = ${LimitSpan.DAY} AND u.starts_us = day_us;
    END IF;
    IF v_month.is_new THEN
        INSERT INTO limit_use (person_id, span, starts_us, ends_us, used)
        VALUES (p_person, ${LimitSpan.MONTH}, month_us, v_month.ends_us, p_amount);
    ELSE
        UPDATE limit_use u SET used = u.used + p_amount
        WHERE u.person_id = p_person AND u.span = ${LimitSpan.MONTH} AND u.starts_us = month_us;
    END IF;
END $$;
