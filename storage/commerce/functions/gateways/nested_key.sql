-- The key of a step within a step: only who holds the outer key takes it.
CREATE FUNCTION nested_key(p_key uuid) RETURNS uuid
LANGUAGE sql IMMUTABLE
AS $$ SELECT encode(substring(sha256(uuid_send(p_key) || '\x2f'::bytea) FOR 16), 'hex')::uuid $$;
