-- The time now, not that of the transaction, in Unix milliseconds.
CREATE FUNCTION unix_ms() RETURNS bigint
LANGUAGE sql VOLATILE
AS $$
    SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint
$$;
