-- What has been deleted from the journal because the archive has it, and what is in it again.
--
-- Invariants
--   * Only content is deleted: messages, edits, reactions, and what was one of these and is erased. The archive has such
--     a row as it is, with nothing left to erase, and no promise still asks for it here (`trim_journal.sql`).
--   * `newest` is the newest stamp that was deleted: what lacks rows from a stamp up to it on cannot be found here.
--   * A sweep goes through the blocks of the table; `next_block` is where its next step begins.
--   * A row that somebody needs is put back, with the lowest stamp, and stays for a day at least (`put_back`).

CREATE TABLE trimming (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    newest     xid8 NOT NULL DEFAULT '0',
    next_block bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
INSERT INTO trimming DEFAULT VALUES;

CREATE TABLE put_back (
    dialog_id uuid NOT NULL,
    seq       bigint NOT NULL,
    at_ms     bigint NOT NULL,
    PRIMARY KEY (dialog_id, seq)
);
