-- Whether a stored body is a given one whose last field, `logs`, was empty and has been filled in (`fill_logs`).
CREATE FUNCTION is_body_before_logs(p_stored bytea, p_given bytea) RETURNS boolean
LANGUAGE sql IMMUTABLE
AS $$
    SELECT length(p_stored) > length(p_given)
        AND substr(p_stored, 1, length(p_given) - 1) = substr(p_given, 1, length(p_given) - 1)
$$;
