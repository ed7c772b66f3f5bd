-- Microseconds since 1970, now.
CREATE FUNCTION clock_us() RETURNS bigint
LANGUAGE sql VOLATILE
AS $$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;
