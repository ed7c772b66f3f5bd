-- A number, 0 or more, as msgpack.
CREATE FUNCTION pack_uint(p_value bigint) RETURNS bytea
LANGUAGE sql IMMUTABLE
AS $$
    SELECT CASE
        WHEN p_value < 128 THEN substr(int8send(p_value), 8)
        WHEN p_value < 256 THEN '\xcc'::bytea || substr(int8send(p_value), 8)
        WHEN p_value < 65536 THEN '\xcd'::bytea || substr(int8send(p_value), 7)
        WHEN p_value < 4294967296 THEN '\xce'::bytea || substr(int8send(p_value), 5)
        ELSE '\xcf'::bytea || int8send(p_value) END
$$;
