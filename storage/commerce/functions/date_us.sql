-- How a step is dated that moves no money: never before what happened to its payment, nor in a closed period.
CREATE FUNCTION date_us(p_now_us bigint, p_moved_us bigint) RETURNS bigint
LANGUAGE sql STABLE
AS $$ SELECT greatest(p_now_us, p_moved_us, (SELECT max(w.ends_us) FROM periods w)) $$;
