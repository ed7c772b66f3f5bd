-- What the archive has of the journal, and what must still be erased there.
--
-- Invariants
--   * `archiving` has a row as soon as a node with an archive has served this database, and for good.
--   * Every row of the journal with a stamp below `moved` is in the archive, as it was at some moment since. All that
--     was written before `covered_ms` is.
--   * While `archiving` has its row, whoever blanks a row of the journal notes it in `archive_erasures`, in the same
--     transaction. It stays there until it is erased in the archive.

CREATE TABLE archiving (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    moved      xid8 NOT NULL DEFAULT '0',
    covered_ms bigint NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE archive_erasures (
    dialog_id uuid NOT NULL,
    seq       bigint NOT NULL,
    PRIMARY KEY (dialog_id, seq)
);
