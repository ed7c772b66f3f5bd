-- Identity: people, devices, sign-ins, one-time codes, services with keys, and the audit trail.
--
-- Invariants
--   * What identifies a person is in their one row of `people` (and the addresses of their sign-ins), and is erased
--     with it. Everything else has an opaque id. Phone numbers are kept encrypted and found by a keyed
--     hash; codes, tokens and keys are kept as hashes only.
--   * A device never changes its principal: `n` is counted per device.
--   * Sign-ins of a principal are opened, and crowded out, under the lock of the principal's row: hence never more
--     live ones than allowed. A sign-in is live until it is revoked or expires.
--   * The refresh tokens of a sign-in form one chain: a token has at most one successor.
--   * What changed and its line in `audit` are written in one transaction; lines are never changed
--     (`functions/audit_is_append_only.sql`).
-- Times come from the node, so that tests own them.

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
