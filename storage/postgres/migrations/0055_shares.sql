-- Shares: the keys of a session that a device hands to other devices, until they have them.
--
-- Invariants
--   * A share is staged first, chunk by chunk. It is made `live` by the flush of the event that names it, in which
--     `authors.session` and `authors.shared_keys_seq` become those of the share.
--   * `slices` has what a device was sent and has not confirmed. Slices of a staged share go only with the share.
--   * `handed_sessions.devices` has, in this order, every device that was ever sent a slice of the session, live or not.
--     The first `covered` of `shares` are all devices that may read at its `keys_seq`; NULL: the share is not complete.
--     `authors.covered` is that of the last live share: the first so many devices have the session, or a live slice.
ALTER TABLE authors ADD COLUMN session bytea, ADD COLUMN shared_keys_seq bigint, ADD COLUMN covered int;

CREATE TABLE handed_sessions (
    dialog_id uuid NOT NULL,
    device_id uuid NOT NULL,
    session   bytea NOT NULL,
    devices   uuid[] NOT NULL,
    PRIMARY KEY (dialog_id, device_id, session)
);

CREATE TABLE shares (
    device_id    uuid NOT NULL,
    share_id     uuid NOT NULL,
    principal_id uuid NOT NULL,
    dialog_id    uuid NOT NULL,
    session      bytea NOT NULL,
    keys_seq     bigint NOT NULL,
    covered      int,
    live         boolean NOT NULL DEFAULT false,
    staged_at_ms bigint NOT NULL,
    PRIMARY KEY (device_id, share_id)
);
CREATE INDEX shares_by_age ON shares (live, staged_at_ms);

CREATE TABLE slices (
    to_device uuid NOT NULL,
    number    bigint GENERATED ALWAYS AS IDENTITY,
    device_id uuid NOT NULL,
    share_id  uuid NOT NULL,
    body      bytea NOT NULL,
    PRIMARY KEY (to_device, number),
    UNIQUE (device_id, share_id, to_device)
);
