-- A one-time code belongs to who requested it; an API key is granted businesses and dialogs.
--
-- Invariants
--   * A number has at most one pending code for each network that requested one, so nobody can spend the guesses of a
--     code that somebody else requested. `code_id` is a secret of the requester, who may answer from another network.
--   * `businesses` null: every business of the tenant. Only keys of an older version have that, and `all_dialogs`.

-- Codes live for minutes: those who wait for one request another.
DROP TABLE codes;
CREATE TABLE codes (
    tenant_id     smallint NOT NULL,
    phone_hash    bytea NOT NULL,
    network       text NOT NULL,
    code_id       uuid NOT NULL,
    code_hash     bytea NOT NULL,
    attempts_left int NOT NULL,
    expires_at_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, phone_hash, network)
);
CREATE INDEX codes_expired ON codes (expires_at_ms);

ALTER TABLE api_keys ADD COLUMN businesses uuid[], ADD COLUMN all_dialogs boolean NOT NULL DEFAULT false;
UPDATE api_keys SET all_dialogs = true;
