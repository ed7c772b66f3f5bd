-- Sign in, or up, by a phone number and the id of a code whose digits the caller has compared.
CREATE FUNCTION sign_in_by_code(
    p_now_ms bigint, p_tenant smallint, p_phone_hash bytea, p_code_id uuid, p_deleted_before_ms bigint,
    p_principal uuid, p_phone_key text, p_phone_box bytea, p_country text,
    p_display_name text, p_locale text, p_timezone text,
    p_sign_in uuid, p_device uuid, p_spare_device uuid, p_platform text, p_app_version text, p_device_name text,
    p_address text, p_refresh_hash bytea, p_expires_at_ms bigint, p_max int,
    OUT outcome smallint, OUT principal_id uuid, OUT device_id uuid, OUT crowded_out uuid[], OUT replaced uuid[]
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_who principals%ROWTYPE;
BEGIN
    -- Of concurrent calls for one number, with the same code or others, the first consumes all codes of the number;
    -- the others wait here, then find none.
    IF NOT coalesce((
        SELECT bool_or(x.code_id = p_code_id AND x.expires_at_ms > p_now_ms) FROM (
            SELECT c.code_id, c.expires_at_ms FROM codes c
            WHERE c.tenant_id = p_tenant AND c.phone_hash = p_phone_hash ORDER BY c.network FOR UPDATE) x), false)
    THEN
        outcome := ${Outcome.CODE_USED};
        RETURN;
    END IF;

    SELECT p.* INTO v_who FROM principals p JOIN people x ON x.principal_id = p.principal_id
    WHERE x.tenant_id = p_tenant AND x.phone_hash = p_phone_hash FOR NO KEY UPDATE OF p;
    IF v_who.status = ${PrincipalStatus.DELETED} AND v_who.deleted_at_ms <= p_deleted_before_ms THEN
        PERFORM purge_person(p_now_ms, v_who.principal_id, ${PURGE_ROWS_MAX});
        v_who := NULL;
    END IF;

    IF v_who.principal_id IS NULL AND p_display_name IS NULL THEN
        UPDATE codes c SET attempts_left = c.attempts_left + 1
        WHERE c.tenant_id = p_tenant AND c.phone_hash = p_phone_hash AND c.code_id = p_code_id;
        outcome := ${Outcome.NAME_NEEDED};
        RETURN;
    END IF;
    DELETE FROM codes c WHERE c.tenant_id = p_tenant AND c.phone_hash = p_phone_hash;

    outcome := ${Outcome.OK};
    principal_id := coalesce(v_who.principal_id, p_principal);
    IF v_who.principal_id IS NULL THEN
        INSERT INTO principals (principal_id, tenant_id, type, created_at_ms)
        VALUES (p_principal, p_tenant, ${PrincipalType.PERSON}, p_now_ms);
        INSERT INTO people (principal_id, tenant_id, phone_hash, phone_key, phone_box, country,
                            display_name, locale, timezone, updated_at_ms)
        VALUES (p_principal, p_tenant, p_phone_hash, p_phone_key, p_phone_box, p_country,
                p_display_name, coalesce(p_locale, ''), coalesce(p_timezone, ''), p_now_ms);
        PERFORM note_audit(p_now_ms, p_tenant, 'person.created', p_principal, p_principal, NULL);
    ELSIF v_who.status = ${PrincipalStatus.SUSPENDED} THEN
        outcome := ${Outcome.SUSPENDED};
        RETURN;
    ELSIF v_who.status = ${PrincipalStatus.DELETED} THEN
        UPDATE principals p SET status = ${PrincipalStatus.ACTIVE}, deleted_at_ms = NULL
        WHERE p.principal_id = v_who.principal_id;
        PERFORM note_audit(p_now_ms, p_tenant, 'person.restored', principal_id, principal_id, NULL);
    END IF;

    SELECT o.device_id, o.crowded_out, o.replaced INTO device_id, crowded_out, replaced
    FROM open_sign_in(p_now_ms, p_tenant, sign_in_by_code.principal_id, p_sign_in, p_device, p_spare_device,
                      p_platform, p_app_version, p_device_name, p_address, p_expires_at_ms, p_max) o;
    INSERT INTO refresh_tokens VALUES (p_refresh_hash, p_sign_in, p_now_ms);
END $$;
