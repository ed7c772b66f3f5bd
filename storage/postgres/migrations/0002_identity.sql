-- Identity: people, devices, sign-ins, one-time codes, services with keys, and the audit trail.
--
-- Invariants
--   * Whatever tells who a person is stands in their one row of `people` (and the addresses of their sign-ins), and
--     goes with it. Everything else knows them by an opaque id. Phone numbers are kept encrypted and found by a keyed
--     hash; codes, tokens and keys are kept as hashes only.
--   * A device belongs to one principal for ever: `n` is counted per device, so nobody may speak with another's.
--   * Sign-ins of a principal are opened, and crowded out, under the lock of the principal's row: hence never more
--     live ones than allowed. A sign-in is live until it is revoked or expires.
--   * The refresh tokens of a sign-in form one chain: a token has at most one successor.
--   * What changed and its line in `audit` are written in one transaction; lines are never changed.
-- Times come from the node (`p_now_ms`), so that tests own them. Outcomes are those of `storage.identity`.

ALTER TABLE sign_ins
    ADD COLUMN expires_at_ms bigint,
    ADD COLUMN platform      text NOT NULL DEFAULT '',
    ADD COLUMN app_version   text NOT NULL DEFAULT '',
    ADD COLUMN device_name   text NOT NULL DEFAULT '';
CREATE INDEX sign_ins_ended ON sign_ins (least(revoked_at_ms, expires_at_ms));
CREATE INDEX principals_deleted ON principals (deleted_at_ms) WHERE status = 3;

CREATE TABLE people (
    principal_id  uuid PRIMARY KEY REFERENCES principals ON DELETE CASCADE,
    tenant_id     smallint NOT NULL,
    phone_hash    bytea,
    phone_key     text,
    phone_box     bytea,
    country       text NOT NULL DEFAULT '',
    display_name  text NOT NULL CHECK (char_length(display_name) <= 100),
    avatar_url    text NOT NULL DEFAULT '' CHECK (char_length(avatar_url) <= 2000),
    locale        text NOT NULL,
    timezone      text NOT NULL,
    findable      boolean NOT NULL DEFAULT true,
    updated_at_ms bigint NOT NULL,
    UNIQUE (tenant_id, phone_hash),
    CHECK ((phone_hash IS NULL) = (phone_box IS NULL) AND (phone_box IS NULL) = (phone_key IS NULL))
);

CREATE TABLE devices (
    device_id     uuid PRIMARY KEY,
    principal_id  uuid NOT NULL REFERENCES principals,
    created_at_ms bigint NOT NULL
);

CREATE TABLE codes (
    tenant_id     smallint NOT NULL,
    phone_hash    bytea NOT NULL,
    code_hash     bytea NOT NULL,
    attempts_left int NOT NULL,
    expires_at_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, phone_hash)
);

CREATE TABLE refresh_tokens (
    token_hash    bytea PRIMARY KEY,
    sign_in_id    uuid NOT NULL REFERENCES sign_ins ON DELETE CASCADE,
    created_at_ms bigint NOT NULL,
    used_at_ms    bigint
);
CREATE INDEX refresh_tokens_of_sign_in ON refresh_tokens (sign_in_id);
CREATE INDEX refresh_tokens_used ON refresh_tokens (used_at_ms) WHERE used_at_ms IS NOT NULL;

CREATE TABLE services (
    principal_id uuid PRIMARY KEY REFERENCES principals ON DELETE CASCADE,
    name         text NOT NULL CHECK (char_length(name) BETWEEN 1 AND 100)
);

-- The id of a key is the device that its events come from.
CREATE TABLE api_keys (
    api_key_id    uuid PRIMARY KEY REFERENCES devices,
    principal_id  uuid NOT NULL REFERENCES services ON DELETE CASCADE,
    key_hash      bytea NOT NULL UNIQUE,
    kinds         smallint[] NOT NULL,
    created_at_ms bigint NOT NULL
);

CREATE TABLE audit (
    audit_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms      bigint NOT NULL,
    tenant_id  smallint NOT NULL,
    action     text NOT NULL,
    actor_id   uuid NOT NULL,
    subject_id uuid NOT NULL,
    sign_in_id uuid
);
CREATE INDEX audit_of_subject ON audit (subject_id, audit_id);
CREATE INDEX audit_by_time ON audit (at_ms);

-- Lines about signing in go after a year; no other line ever does, and none is changed.
CREATE FUNCTION audit_is_append_only() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.action LIKE 'sign_in.%'
           AND OLD.at_ms < (extract(epoch FROM clock_timestamp()) * 1000)::bigint - 365 * 86400000::bigint THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit trail is append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$;
CREATE TRIGGER audit_keeps_lines BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION audit_is_append_only();
CREATE TRIGGER audit_keeps_all BEFORE TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only();

CREATE FUNCTION note_audit(
    p_now_ms bigint, p_tenant smallint, p_action text, p_actor uuid, p_subject uuid, p_sign_in uuid
) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id, sign_in_id)
    VALUES (p_now_ms, p_tenant, p_action, p_actor, p_subject, p_sign_in)
$$;


-- End live sign-ins of a principal: those, or all (null), but never `p_except`. Returns the ones that ended.
CREATE FUNCTION end_sign_ins(
    p_now_ms bigint, p_principal uuid, p_these uuid[], p_except uuid, p_why smallint, p_action text
) RETURNS uuid[]
LANGUAGE sql VOLATILE
AS $$
    WITH owner AS MATERIALIZED (
        SELECT principal_id FROM principals WHERE principal_id = p_principal FOR NO KEY UPDATE
    ), ended AS (
        UPDATE sign_ins s SET revoked_at_ms = p_now_ms, revoked_why = p_why
        WHERE s.principal_id = (SELECT principal_id FROM owner) AND s.revoked_at_ms IS NULL
          AND (p_these IS NULL OR s.sign_in_id = ANY (p_these)) AND s.sign_in_id IS DISTINCT FROM p_except
        RETURNING s.sign_in_id, s.tenant_id
    ), noted AS (
        INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id, sign_in_id)
        SELECT p_now_ms, tenant_id, p_action, p_principal, p_principal, sign_in_id FROM ended
    )
    SELECT coalesce(array_agg(sign_in_id), '{}') FROM ended
$$;


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
    ), NULL, 4::smallint, 'sign_in.replaced');
    crowded_out := end_sign_ins(p_now_ms, p_principal, ARRAY(
        SELECT s.sign_in_id FROM sign_ins s
        WHERE s.principal_id = p_principal AND s.revoked_at_ms IS NULL
          AND (s.expires_at_ms IS NULL OR s.expires_at_ms > p_now_ms)
        ORDER BY s.created_at_ms DESC, s.sign_in_id DESC OFFSET p_max - 1
    ), NULL, 2::smallint, 'sign_in.crowded_out');

    INSERT INTO sign_ins (sign_in_id, principal_id, device_id, tenant_id, created_at_ms, last_used_at_ms, address,
                          expires_at_ms, platform, app_version, device_name)
    VALUES (p_sign_in, p_principal, device_id, p_tenant, p_now_ms, p_now_ms, p_address,
            p_expires_at_ms, p_platform, p_app_version, p_device_name);
    PERFORM note_audit(p_now_ms, p_tenant, 'sign_in.opened', p_principal, p_principal, p_sign_in);
END $$;


-- Erase what tells who a deleted person was. What they wrote to others stays, under an id that means nothing.
CREATE FUNCTION purge_person(p_now_ms bigint, p_principal uuid) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    DELETE FROM people WHERE principal_id = p_principal;
    DELETE FROM sign_ins WHERE principal_id = p_principal;
    DELETE FROM blocks WHERE blocker_id = p_principal;
    UPDATE principals SET external_id = NULL, admin = false WHERE principal_id = p_principal;
    INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id)
    SELECT p_now_ms, tenant_id, 'person.purged', principal_id, principal_id
    FROM principals WHERE principal_id = p_principal;
$$;


-- Sign in, or up, by a phone number and the hash of the code that was found right.
CREATE FUNCTION sign_in_by_code(
    p_now_ms bigint, p_tenant smallint, p_phone_hash bytea, p_code_hash bytea, p_deleted_before_ms bigint,
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
    -- Of several who come with the same code, the first consumes it; the others wait here, and find none.
    PERFORM 1 FROM codes c
    WHERE c.tenant_id = p_tenant AND c.phone_hash = p_phone_hash AND c.code_hash = p_code_hash
      AND c.expires_at_ms > p_now_ms
    FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 2;
        RETURN;
    END IF;

    SELECT p.* INTO v_who FROM principals p JOIN people x ON x.principal_id = p.principal_id
    WHERE x.tenant_id = p_tenant AND x.phone_hash = p_phone_hash FOR NO KEY UPDATE OF p;
    IF v_who.status = 3 AND v_who.deleted_at_ms <= p_deleted_before_ms THEN
        PERFORM purge_person(p_now_ms, v_who.principal_id);
        v_who := NULL;
    END IF;

    IF v_who.principal_id IS NULL AND p_display_name IS NULL THEN
        UPDATE codes c SET attempts_left = c.attempts_left + 1
        WHERE c.tenant_id = p_tenant AND c.phone_hash = p_phone_hash;
        outcome := 3;
        RETURN;
    END IF;
    DELETE FROM codes c WHERE c.tenant_id = p_tenant AND c.phone_hash = p_phone_hash;

    outcome := 1;
    principal_id := coalesce(v_who.principal_id, p_principal);
    IF v_who.principal_id IS NULL THEN
        INSERT INTO principals (principal_id, tenant_id, type, created_at_ms)
        VALUES (p_principal, p_tenant, 1, p_now_ms);
        INSERT INTO people (principal_id, tenant_id, phone_hash, phone_key, phone_box, country,
                            display_name, locale, timezone, updated_at_ms)
        VALUES (p_principal, p_tenant, p_phone_hash, p_phone_key, p_phone_box, p_country,
                p_display_name, coalesce(p_locale, ''), coalesce(p_timezone, ''), p_now_ms);
        PERFORM note_audit(p_now_ms, p_tenant, 'person.created', p_principal, p_principal, NULL);
    ELSIF v_who.status = 2 THEN
        outcome := 4;
        RETURN;
    ELSIF v_who.status = 3 THEN
        UPDATE principals p SET status = 1, deleted_at_ms = NULL WHERE p.principal_id = v_who.principal_id;
        PERFORM note_audit(p_now_ms, p_tenant, 'person.restored', principal_id, principal_id, NULL);
    END IF;

    SELECT o.device_id, o.crowded_out, o.replaced INTO device_id, crowded_out, replaced
    FROM open_sign_in(p_now_ms, p_tenant, sign_in_by_code.principal_id, p_sign_in, p_device, p_spare_device,
                      p_platform, p_app_version, p_device_name, p_address, p_expires_at_ms, p_max) o;
    INSERT INTO refresh_tokens VALUES (p_refresh_hash, p_sign_in, p_now_ms);
END $$;


-- The sign-in of somebody whom another issuer vouches for: the one that the device has, or a new one.
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
    IF v_who.status = 3 AND v_who.deleted_at_ms <= p_deleted_before_ms THEN
        PERFORM purge_person(p_now_ms, v_who.principal_id);
        v_who := NULL;
    END IF;
    IF v_who.principal_id IS NULL THEN
        INSERT INTO principals (principal_id, tenant_id, type, external_id, created_at_ms)
        VALUES (p_principal, p_tenant, 1, p_external_id, p_now_ms) ON CONFLICT (tenant_id, external_id) DO NOTHING;
        IF FOUND THEN
            INSERT INTO people (principal_id, tenant_id, display_name, locale, timezone, updated_at_ms)
            VALUES (p_principal, p_tenant, p_display_name, p_locale, p_timezone, p_now_ms);
            PERFORM note_audit(p_now_ms, p_tenant, 'person.created', p_principal, p_principal, NULL);
        END IF;
        SELECT p.* INTO v_who FROM principals p
        WHERE p.tenant_id = p_tenant AND p.external_id = p_external_id FOR NO KEY UPDATE;
    END IF;
    principal_id := v_who.principal_id;
    IF v_who.status = 2 THEN
        outcome := 4;
        RETURN;
    END IF;

    -- A token made before the sign-in was ended, or the person deleted, does not bring it back; a newer one does.
    SELECT s.* INTO v_last FROM sign_ins s
    WHERE s.principal_id = v_who.principal_id AND s.device_id = p_device
    ORDER BY s.created_at_ms DESC, s.sign_in_id DESC LIMIT 1;
    IF p_issued_at_ms <= greatest(v_last.revoked_at_ms, v_who.deleted_at_ms) THEN
        outcome := 5;
        RETURN;
    END IF;
    IF v_who.status = 3 THEN
        UPDATE principals p SET status = 1, deleted_at_ms = NULL WHERE p.principal_id = v_who.principal_id;
        PERFORM note_audit(p_now_ms, p_tenant, 'person.restored', principal_id, principal_id, NULL);
    END IF;

    outcome := 1;
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
        outcome := 6;
    END IF;
END $$;


-- Rotate a refresh token. The successor follows from the token (the node derives it), so whoever lost the answer and
-- asks again soon gets the same one, as long as it has not been used: the chain never forks.
CREATE FUNCTION refresh_sign_in(
    p_now_ms bigint, p_token_hash bytea, p_next_hash bytea, p_address text, p_expires_at_ms bigint, p_grace_ms bigint,
    OUT outcome smallint, OUT principal_id uuid, OUT device_id uuid, OUT sign_in_id uuid, OUT tenant_id smallint
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_token refresh_tokens%ROWTYPE;
    v_next refresh_tokens%ROWTYPE;
    v_sign_in sign_ins%ROWTYPE;
    v_status smallint;
BEGIN
    SELECT t.* INTO v_token FROM refresh_tokens t WHERE t.token_hash = p_token_hash FOR UPDATE;
    IF v_token.token_hash IS NULL THEN
        outcome := 7;
        RETURN;
    END IF;
    SELECT s.* INTO v_sign_in FROM sign_ins s WHERE s.sign_in_id = v_token.sign_in_id FOR NO KEY UPDATE;
    SELECT p.status INTO v_status FROM principals p WHERE p.principal_id = v_sign_in.principal_id;
    sign_in_id := v_sign_in.sign_in_id;
    principal_id := v_sign_in.principal_id;
    device_id := v_sign_in.device_id;
    tenant_id := v_sign_in.tenant_id;

    SELECT t.* INTO v_next FROM refresh_tokens t WHERE t.token_hash = p_next_hash;
    outcome := CASE
        WHEN v_sign_in.revoked_at_ms IS NOT NULL OR v_status = 3 THEN 5
        WHEN v_token.used_at_ms IS NOT NULL AND (
            v_next.token_hash IS NULL OR v_next.used_at_ms IS NOT NULL
            OR p_now_ms > v_token.used_at_ms + p_grace_ms) THEN 8
        WHEN v_sign_in.expires_at_ms <= p_now_ms THEN 9
        WHEN v_status = 2 THEN 4
        ELSE 1 END;
    IF outcome = 8 THEN
        UPDATE sign_ins s SET revoked_at_ms = p_now_ms, revoked_why = 3 WHERE s.sign_in_id = v_token.sign_in_id;
        PERFORM note_audit(p_now_ms, tenant_id, 'sign_in.token_reused', principal_id, principal_id, sign_in_id);
    ELSIF outcome = 1 AND v_token.used_at_ms IS NULL THEN
        UPDATE refresh_tokens t SET used_at_ms = p_now_ms WHERE t.token_hash = p_token_hash;
        INSERT INTO refresh_tokens VALUES (p_next_hash, v_token.sign_in_id, p_now_ms);
        UPDATE sign_ins s SET last_used_at_ms = p_now_ms, address = p_address, expires_at_ms = p_expires_at_ms
        WHERE s.sign_in_id = v_token.sign_in_id;
    END IF;
END $$;


-- An active person's wish to be deleted.
CREATE FUNCTION delete_person(p_now_ms bigint, p_principal uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_tenant smallint;
BEGIN
    UPDATE principals SET status = 3, deleted_at_ms = p_now_ms
    WHERE principal_id = p_principal AND status = 1 RETURNING tenant_id INTO v_tenant;
    IF v_tenant IS NULL THEN
        RETURN false;
    END IF;
    PERFORM end_sign_ins(p_now_ms, p_principal, NULL, NULL, 5::smallint, 'sign_in.ended');
    PERFORM note_audit(p_now_ms, v_tenant, 'person.deleted', p_principal, p_principal, NULL);
    RETURN true;
END $$;


-- What time alone ends. Returns how many people were erased; at most `p_limit`, so that no call is long.
CREATE FUNCTION purge_identity(p_now_ms bigint, p_deleted_before_ms bigint, p_ended_before_ms bigint,
                               p_audit_before_ms bigint, p_limit int) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_who uuid;
    v_purged int := 0;
BEGIN
    FOR v_who IN
        SELECT p.principal_id FROM principals p
        WHERE p.status = 3 AND p.deleted_at_ms <= p_deleted_before_ms
          AND EXISTS (SELECT 1 FROM people x WHERE x.principal_id = p.principal_id)
        ORDER BY p.deleted_at_ms LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        PERFORM purge_person(p_now_ms, v_who);
        v_purged := v_purged + 1;
    END LOOP;
    DELETE FROM codes WHERE expires_at_ms <= p_now_ms;
    DELETE FROM sign_ins WHERE least(revoked_at_ms, expires_at_ms) <= p_ended_before_ms;
    DELETE FROM refresh_tokens WHERE used_at_ms <= p_ended_before_ms;
    DELETE FROM audit WHERE at_ms < p_audit_before_ms AND action LIKE 'sign_in.%';
    RETURN v_purged;
END $$;
