-- Make a bot or a business with an API key (`p_device`), unless its owner has `p_max` already: then false.
CREATE FUNCTION create_account(
    p_now_ms bigint, p_tenant smallint, p_actor uuid, p_owner uuid, p_type smallint, p_max int,
    p_principal uuid, p_name text, p_locale text, p_timezone text, p_device uuid, p_key_hash bytea
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM 1 FROM principals WHERE principal_id = p_actor FOR NO KEY UPDATE;
    IF (SELECT count(*) FROM accounts a WHERE a.tenant_id = p_tenant AND a.owner_id = p_owner) >= p_max THEN
        RETURN false;
    END IF;
    INSERT INTO principals (principal_id, tenant_id, type, created_at_ms)
    VALUES (p_principal, p_tenant, p_type, p_now_ms);
    INSERT INTO people (principal_id, tenant_id, display_name, locale, timezone, findable, updated_at_ms, who_may_add)
    VALUES (p_principal, p_tenant, p_name, p_locale, p_timezone, false, p_now_ms, ${WhoMayAdd.EVERYBODY});
    INSERT INTO accounts (principal_id, tenant_id, owner_id, type, created_at_ms)
    VALUES (p_principal, p_tenant, p_owner, p_type, p_now_ms);
    INSERT INTO devices (device_id, principal_id, created_at_ms) VALUES (p_device, p_principal, p_now_ms);
    INSERT INTO api_keys (api_key_id, principal_id, key_hash, kinds, businesses, all_dialogs, created_at_ms)
    VALUES (p_device, p_principal, p_key_hash, '{}', '{}', false, p_now_ms);
    PERFORM note_audit(p_now_ms, p_tenant, 'account.created', p_actor, p_principal, NULL);
    RETURN true;
END $$;
