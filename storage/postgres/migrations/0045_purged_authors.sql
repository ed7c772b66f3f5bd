-- What people wrote who are purged is erased, in the journal and in the archive.
--
-- Invariants
--   * A person is in `purged_authors` from their purge on, until all that they wrote is erased, or has an `expires_at_ms`
--     because it must be kept longer.
--   * The work goes through the journal by (dialog, device, n), then (`in_journal` is false) through `left_numbers` by
--     (device, n, dialog). It has passed the place that is noted.
--   * When a row with content leaves the journal, `left_numbers` has the 10,000 numbers of its device that it is among:
--     by these the archive finds it. A row that left before this migration is not found.
CREATE TABLE purged_authors (
    principal_id uuid PRIMARY KEY,
    due_ms       bigint NOT NULL,
    in_journal   boolean NOT NULL DEFAULT true,
    dialog_id    uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    device_id    uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    done_n       bigint NOT NULL DEFAULT 0
);
CREATE INDEX purged_authors_due ON purged_authors (due_ms);
CREATE TABLE left_numbers (
    device_id uuid NOT NULL,
    first_n   bigint NOT NULL,
    PRIMARY KEY (device_id, first_n)
);
CREATE INDEX devices_of_principal ON devices (principal_id, device_id);
INSERT INTO purged_authors (principal_id, due_ms)
SELECT p.principal_id, 0 FROM principals p
WHERE p.status = 3 AND NOT EXISTS (SELECT FROM people x WHERE x.principal_id = p.principal_id);
