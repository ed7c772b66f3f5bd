-- The keys of devices, what was claimed of them, and the device logs of people. All of it is public keys and signatures.
--
-- Invariants
--   * A device has one row in `device_keys` for good: `generation` and, within one, `last_key` only grow. `keys` is NULL
--     when its sign-in has ended; then it has no one-time keys and no fallback key either.
--   * No two devices have a key in common.
--   * A one-time key is deleted by the claim that gets it, and one whose number is not above `last_key` is not taken: so
--     it goes out once. One of another `epoch` than the deployment's counts as not there: a database that was restored
--     has keys that were given out after the backup.
--   * `key_claims` has the answers to the last claims of a device, by number; `last_claim` is the highest.
--   * A log has the entries of one identity, 0 to `length` - 1; those of the identity before are deleted. `log_devices`
--     has what it says of devices: the keys that each had from the entry `since` up to `until`; NULL: it has them now.
CREATE TABLE device_keys (
    device_id    uuid PRIMARY KEY,
    principal_id uuid NOT NULL,
    generation   bigint NOT NULL,
    ed25519      bytea NOT NULL UNIQUE,
    curve25519   bytea NOT NULL UNIQUE,
    keys         bytea,
    last_key     bigint NOT NULL DEFAULT -1,
    last_claim   bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 80);
CREATE INDEX device_keys_of_principal ON device_keys (principal_id, device_id);

CREATE TABLE one_time_keys (
    device_id uuid NOT NULL,
    key_no    bigint NOT NULL,
    epoch     bigint NOT NULL,
    key       bytea NOT NULL,
    PRIMARY KEY (device_id, key_no)
);

-- Kept over an epoch: it may go out often, and nobody could write to a device that is away without it.
CREATE TABLE fallback_keys (
    device_id uuid PRIMARY KEY,
    key_no    bigint NOT NULL,
    key       bytea NOT NULL,
    used      boolean NOT NULL DEFAULT false
);

CREATE TABLE key_claims (
    device_id uuid NOT NULL,
    claim     bigint NOT NULL,
    epoch     bigint NOT NULL,
    targets   uuid[] NOT NULL,
    devices   uuid[] NOT NULL,
    key_nos   bigint[] NOT NULL,
    keys      bytea[] NOT NULL,
    fallbacks boolean[] NOT NULL,
    PRIMARY KEY (device_id, claim)
);

CREATE TABLE identities (
    principal_id uuid PRIMARY KEY,
    generation   bigint NOT NULL,
    length       int NOT NULL,
    head         bytea NOT NULL,
    master_key   bytea NOT NULL,
    master       bytea NOT NULL DEFAULT '',
    self_signing bytea NOT NULL DEFAULT '',
    user_signing bytea NOT NULL DEFAULT ''
);

CREATE TABLE device_logs (
    principal_id uuid NOT NULL,
    index        int NOT NULL,
    hash         bytea NOT NULL,
    entry        bytea NOT NULL,
    PRIMARY KEY (principal_id, index)
);

CREATE TABLE log_devices (
    principal_id uuid NOT NULL,
    since        int NOT NULL,
    until        int,
    device_id    uuid NOT NULL,
    ed25519      bytea NOT NULL,
    curve25519   bytea NOT NULL,
    PRIMARY KEY (principal_id, since)
);
CREATE UNIQUE INDEX log_devices_now ON log_devices (principal_id, device_id) WHERE until IS NULL;
