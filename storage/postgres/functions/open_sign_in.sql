-- Open a sign-in of a principal whose row the caller has locked. `device_id` is null when the device is another's
-- and there is no spare one.
CREATE FUNCTION open_sign_in(
    p_now_ms bigint, p_tenant smallint, p_principal uuid, p_sign_in uuid, p_device uuid, p_spare_device uuid,
    p_platform text, p_app_version text, p_device_name text, p_address text, p_expires_at_ms bigint, p_max int,
    OUT device_id uuid, OUT crowded_out uuid[], OUT replaced uuid[]
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
BEGIN
    crowded_out := '{}';
    INSERT INTO devices VALUES (p_device, p_principal, p_now_ms) ON CONFLICT DO NOTHING;
    SELECT d.device_id INTO device_id FROM devices d WHERE d.device_id = p_device AND d.principal_id = p_principal;
    IF device_id IS NULL AND p_spare_device IS NOT NULL THEN
        INSERT INTO devices VALUES (p_spare_device, p_principal, p_now_ms);
        device_id := p_spare_device;
    END IF;
    IF device_id IS NULL THEN
        RETURN;
    END IF;

    replaced := end_sign_ins(p_now_ms, p_principal, ARRAY(
        SELECT s.sign_in_id FROM sign_ins s
        WHERE s.principal_id = p_principal AND s.device_id = open_sign_in.device_id
    ), NULL, ${EndReason.REPLACED}::smallint, 'sign_in.replaced');
    crowded_out := end_sign_ins(p_now_ms, p_principal, ARRAY(
        SELECT s.sign_in_id FROM sign_ins s
        WHERE s.principal_id = p_principal AND s.revoked_at_ms IS NULL
          AND (s.expires_at_ms IS NULL OR s.expires_at_ms > p_now_ms)
        ORDER BY s.created_at_ms DESC, s.sign_in_id DESC OFFSET p_max - 1
    ), NULL, ${EndReason.CROWDED_OUT}::smallint, 'sign_in.crowded_out');

    INSERT INTO sign_ins (sign_in_id, principal_id, device_id, tenant_id, created_at_ms, last_used_at_ms, address,
                          expires_at_ms, platform, app_version, device_name)
    VALUES (p_sign_in, p_principal, device_id, p_tenant, p_now_ms, p_now_ms, p_address,
            p_expires_at_ms, p_platform, p_app_version, p_device_name);
    PERFORM note_audit(p_now_ms, p_tenant, 'sign_in.opened', p_principal, p_principal, p_sign_in);
END $$;
