-- What the transfers of a suspense item are about.
CREATE FUNCTION suspense_subject(p_suspense bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE
AS $$ SELECT encode(substring(sha256(convert_to('suspense/' || p_suspense, 'UTF8')) FOR 16), 'hex')::uuid $$;
