-- Bots and businesses: accounts with an API key, of the platform or of a business.
--
-- Invariants
--   * An account has one API key; the id of the key is the device that its events over HTTP come from.
--   * `owner_id` is the business that may renew the key and delete the account; the nil id: the admins may.

ALTER TABLE api_keys
    DROP CONSTRAINT api_keys_principal_id_fkey,
    ADD CONSTRAINT api_keys_principal_id_fkey FOREIGN KEY (principal_id) REFERENCES principals ON DELETE CASCADE;
CREATE INDEX api_keys_of_principal ON api_keys (principal_id);

CREATE TABLE accounts (
    principal_id  uuid PRIMARY KEY REFERENCES principals ON DELETE CASCADE,
    tenant_id     smallint NOT NULL,
    owner_id      uuid NOT NULL,
    type          smallint NOT NULL,
    created_at_ms bigint NOT NULL
);
CREATE INDEX accounts_of_owner ON accounts (tenant_id, owner_id, principal_id);
