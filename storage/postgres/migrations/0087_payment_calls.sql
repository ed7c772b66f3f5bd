-- What became of commands about payments: one that was passed on to commerce is passed on again, whatever became of the
-- rights of who sent it, since only commerce knows its answer; one that was refused is refused again, so that a late copy
-- moves no money of somebody who has paid in another way meanwhile.
--
-- Invariants
--   * A number of a device is used once in a dialog: `what` is a hash of the command's action and of whom it is about. It
--     has no amount in it: of sealed dialogs the database learns none.
--   * A row lives for 30 days, as answers of commerce do (`purge_identity`).
CREATE TABLE payment_calls (
    device_id uuid NOT NULL,
    dialog_id uuid NOT NULL,
    n         bigint NOT NULL,
    what      bytea NOT NULL,
    code      smallint NOT NULL,
    at_ms     bigint NOT NULL,
    PRIMARY KEY (device_id, dialog_id, n)
);
CREATE INDEX payment_calls_by_age ON payment_calls (at_ms);
