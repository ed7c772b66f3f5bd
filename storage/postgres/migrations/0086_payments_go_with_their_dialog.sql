-- Events of payments, orders and bookings go with the dialog that they are in: the ledger is the record. What still waits
-- for the end of its time in a dialog that was purged goes with the next look.
UPDATE deleted_dialogs SET grace_from_ms = 0 WHERE kept_until_ms IS NOT NULL;
UPDATE deleted_dialogs SET grace_from_ms = 0 WHERE grace_from_ms > extract(epoch FROM clock_timestamp()) * 1000;
ALTER TABLE deleted_dialogs DROP COLUMN kept_until_ms;
