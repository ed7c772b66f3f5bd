-- The sign-in of a person with a token of another issuer: the one that the device has, or a new one.
CREATE FUNCTION sign_in_by_issuer(
    p_now_ms bigint, p_tenant smallint, p_external_id text, p_issued_at_ms bigint, p_deleted_before_ms bigint,
    p_principal uuid, p_display_name text, p_locale text, p_timezone text,
    p_sign_in uuid, p_device uuid, p_address text, p_expires_at_ms bigint, p_max int,
    OUT outcome smallint, OUT principal_id uuid, OUT sign_in_id uuid, OUT opened boolean, OUT crowded_out uuid[]
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_who principals%ROWTYPE;
    v_last sign_ins%ROWTYPE;
    v_device uuid;
BEGIN
    crowded_out := '{}';
    opened := false;
    SELECT p.* INTO v_who FROM principals p
    WHERE p.tenant_id = p_tenant AND p.external_id = p_external_id FOR NO KEY UPDATE;
    IF v_who.status = ${PrincipalStatus.DELETED} AND v_who.deleted_at_ms <= p_deleted_before_ms THEN
        PERFORM purge_person(p_now_ms, v_who.principal_id, ${PURGE_ROWS_MAX});
        v_who := NULL;
    END IF;
    IF v_who.principal_id IS NULL THEN
        INSERT INTO principals (principal_id, tenant_id, type, external_id, created_at_ms)
        VALUES (p_principal, p_tenant, ${PrincipalType.PERSON}, p_external_id, p_now_ms)
        ON CONFLICT (tenant_id, external_id) DO NOTHING;
        IF FOUND THEN
            INSERT INTO people (principal_id, tenant_id, display_name, locale, timezone, updated_at_ms)
            VALUES (p_principal, p_tenant, p_display_name, p_locale, p_timezone, p_now_ms);
            PERFORM note_audit(p_now_ms, p_tenant, 'person.created', p_principal, p_principal, NULL);
        END IF;
        SELECT p.* INTO v_who FROM principals p
        WHERE p.tenant_id = p_tenant AND p.external_id = p_external_id FOR NO KEY UPDATE;
    END IF;
    principal_id := v_who.principal_id;
    IF v_who.status = ${PrincipalStatus.SUSPENDED} THEN
        outcome := ${Outcome.SUSPENDED};
        RETURN;
    END IF;

    -- A token issued before the sign-in ended, or before the person was deleted, does not renew it; a newer one does.
    SELECT s.* INTO v_last FROM sign_ins s
    WHERE s.principal_id = v_who.principal_id AND s.device_id = p_device
    ORDER BY s.created_at_ms DESC, s.sign_in_id DESC LIMIT 1;
    IF p_issued_at_ms <= greatest(v_last.revoked_at_ms, v_who.deleted_at_ms) THEN
        outcome := ${Outcome.ENDED};
        RETURN;
    END IF;
    IF v_who.status = ${PrincipalStatus.DELETED} THEN
        UPDATE principals p SET status = ${PrincipalStatus.ACTIVE}, deleted_at_ms = NULL
        WHERE p.principal_id = v_who.principal_id;
        PERFORM note_audit(p_now_ms, p_tenant, 'person.restored', principal_id, principal_id, NULL);
    END IF;

    outcome := ${Outcome.OK};
    IF v_last.revoked_at_ms IS NULL AND v_last.expires_at_ms > p_now_ms THEN
        UPDATE sign_ins s SET last_used_at_ms = p_now_ms, expires_at_ms = p_expires_at_ms,
            address = coalesce(nullif(p_address, ''), s.address)
        WHERE s.sign_in_id = v_last.sign_in_id;
        sign_in_id := v_last.sign_in_id;
        RETURN;
    END IF;
    SELECT o.device_id, o.crowded_out INTO v_device, crowded_out
    FROM open_sign_in(p_now_ms, p_tenant, v_who.principal_id, p_sign_in, p_device, NULL,
                      '', '', '', p_address, p_expires_at_ms, p_max) o;
    sign_in_id := p_sign_in;
    opened := true;
    IF v_device IS NULL THEN
        outcome := ${Outcome.DEVICE_TAKEN};
    END IF;
END $$;
