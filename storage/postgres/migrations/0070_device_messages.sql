-- Messages from device to device, outside of dialogs. The server cannot read what matters in them.
--
-- Invariants
--   * A device has one row in `mailboxes` for good, so its numbers never begin again. Who writes to it holds that row:
--     numbers become visible in order. Rows are locked in the order of devices.
--   * `sent` has the ids of the last posts of the device, the newest last.
--   * `xid` is that of the transaction that wrote a message: nodes find by it what others stored.
CREATE TABLE mailboxes (
    device_id   uuid PRIMARY KEY,
    last_number bigint NOT NULL DEFAULT 0,
    sent        uuid[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 80);

CREATE TABLE device_messages (
    to_device uuid NOT NULL,
    number    bigint NOT NULL,
    dialog_id uuid NOT NULL,
    author_id uuid NOT NULL,
    device_id uuid NOT NULL,
    own       boolean NOT NULL,
    at_ms     bigint NOT NULL,
    xid       xid8 NOT NULL DEFAULT pg_current_xact_id(),
    body      bytea NOT NULL,
    PRIMARY KEY (to_device, number)
);
CREATE INDEX device_messages_by_age ON device_messages (at_ms);
CREATE INDEX device_messages_new ON device_messages (xid);
