-- Make the key of a platform service, or give the one of this name another secret and other rights: the caller stays.
CREATE FUNCTION set_api_key(
    p_tenant smallint, p_name text, p_caller uuid, p_hash bytea, p_rights smallint, p_businesses uuid[]
) RETURNS uuid
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_caller uuid;
BEGIN
    INSERT INTO api_keys AS k (caller_id, tenant_id, name, key_hash, rights, businesses)
    VALUES (p_caller, p_tenant, p_name, p_hash, p_rights, p_businesses)
    ON CONFLICT (tenant_id, name) DO UPDATE
    SET key_hash = excluded.key_hash, rights = excluded.rights, businesses = excluded.businesses
    RETURNING k.caller_id INTO v_caller;
    PERFORM note_audit(p_tenant, 'set_api_key', '${NIL}', v_caller, concat_ws(' ', p_name, p_rights));
    RETURN v_caller;
END $$;
