-- The id of an account: who has it, in which currency, what for. Python computes the same (`accounts.py`).
CREATE FUNCTION account_of(p_tenant smallint, p_owner uuid, p_currency text, p_purpose smallint) RETURNS uuid
LANGUAGE sql IMMUTABLE
AS $$
    SELECT encode(substring(sha256(convert_to(concat_ws('/', p_tenant, p_owner, p_currency, p_purpose), 'UTF8'))
                            FOR 16), 'hex')::uuid
$$;
