-- The sign-in of a device of a bot or a business with its API key: the one that the device has, or a new one.
CREATE FUNCTION sign_in_by_key(
    p_now_ms bigint, p_key_hash bytea, p_principal uuid, p_sign_in uuid, p_device uuid,
    p_platform text, p_app_version text, p_device_name text, p_address text, p_expires_at_ms bigint, p_max int,
    OUT outcome smallint, OUT sign_in_id uuid, OUT crowded_out uuid[]
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_who principals%ROWTYPE;
    v_device uuid;
BEGIN
    crowded_out := '{}';
    SELECT p.* INTO v_who FROM principals p WHERE p.principal_id = p_principal FOR NO KEY UPDATE;
    IF v_who.status <> ${PrincipalStatus.ACTIVE} THEN
        outcome := ${Outcome.SUSPENDED};
        RETURN;
    END IF;
    -- In a statement of its own: a renewal that held the row has replaced the key.
    IF NOT EXISTS (SELECT 1 FROM api_keys k WHERE k.key_hash = p_key_hash AND k.principal_id = p_principal) THEN
        outcome := ${Outcome.UNKNOWN};
        RETURN;
    END IF;
    outcome := ${Outcome.OK};
    UPDATE sign_ins s SET last_used_at_ms = p_now_ms, expires_at_ms = p_expires_at_ms,
        address = coalesce(nullif(p_address, ''), s.address)
    WHERE s.principal_id = p_principal AND s.device_id = p_device AND s.revoked_at_ms IS NULL
      AND s.expires_at_ms > p_now_ms
    RETURNING s.sign_in_id INTO sign_in_id;
    IF FOUND THEN
        RETURN;
    END IF;
    SELECT o.device_id, o.crowded_out INTO v_device, crowded_out
    FROM open_sign_in(p_now_ms, v_who.tenant_id, p_principal, p_sign_in, p_device, NULL,
                      p_platform, p_app_version, p_device_name, p_address, p_expires_at_ms, p_max) o;
    sign_in_id := p_sign_in;
    IF v_device IS NULL THEN
        outcome := ${Outcome.DEVICE_TAKEN};
    END IF;
END $$;
