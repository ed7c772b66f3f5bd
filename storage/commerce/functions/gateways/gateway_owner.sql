-- The owner of the accounts of a gateway. Python computes the same (`gateway_owner`).
CREATE FUNCTION gateway_owner(p_gateway text) RETURNS uuid
LANGUAGE sql IMMUTABLE
AS $$ SELECT encode(substring(sha256(convert_to('gateway/' || p_gateway, 'UTF8')) FOR 16), 'hex')::uuid $$;
