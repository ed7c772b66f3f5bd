-- Erasure in small steps: lists of what is due, so that finding it never reads a whole table.
--
-- Invariants
--   * A message is erased by one row's change: its body and tag become those of `Erased`. Edits and reactions of an
--     erased message count as erased from then on, whatever their rows hold; each such message is in `erasures` until
--     their rows are blank, too.
--   * A dialog with `message_retention_days` is in `retention`: its messages before `from_seq` are erased, or have an
--     `expires_at_ms` because their kind must be kept longer.
--   * No step locks a head: it changes rows in place, and no row's number, author, device, `n` or times.

CREATE TABLE erasures (
    dialog_id uuid NOT NULL,
    target    bigint NOT NULL,
    due_ms    bigint NOT NULL,
    done_seq  bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (dialog_id, target)
);
CREATE INDEX erasures_due ON erasures (due_ms);

CREATE TABLE retention (
    dialog_id uuid PRIMARY KEY,
    from_seq  bigint NOT NULL DEFAULT 1,
    due_ms    bigint NOT NULL
);
CREATE INDEX retention_due ON retention (due_ms);
INSERT INTO retention (dialog_id, due_ms)
SELECT dialog_id, (extract(epoch FROM clock_timestamp()) * 1000)::bigint FROM dialogs WHERE message_retention_days > 0;

-- With the number in it, a step goes on where the one before ended.
DROP INDEX journal_of_target;
CREATE INDEX journal_of_target ON journal (dialog_id, target, seq) WHERE tag IN (2, 3, 4);
-- `expires_at_ms`: when a message is due, by its header or by its kind.
CREATE INDEX journal_of_expiry ON journal (expires_at_ms) WHERE tag = 1 AND expires_at_ms IS NOT NULL;
-- Notices of the platform (kind 14) end after 90 days. The kind is the third byte of a posted envelope.
UPDATE journal SET expires_at_ms = least(expires_at_ms, at_ms + 90 * 86400000::bigint)
WHERE tag = 1 AND substr(body, 3, 1) = '\x0e';

-- The purge of identity, in small steps, too.
CREATE INDEX blocks_of_blocker ON blocks (blocker_id);
DROP INDEX audit_by_time;
CREATE INDEX audit_of_sign_ins ON audit (at_ms) WHERE action LIKE 'sign_in.%';
-- `purged`: a deleted person of whom nothing is left to erase.
ALTER TABLE principals ADD COLUMN purged boolean NOT NULL DEFAULT false;
UPDATE principals p SET purged = true
WHERE p.status = 3 AND NOT EXISTS (SELECT 1 FROM people x WHERE x.principal_id = p.principal_id);
DROP INDEX principals_deleted;
CREATE INDEX principals_to_purge ON principals (deleted_at_ms) WHERE status = 3 AND NOT purged;
