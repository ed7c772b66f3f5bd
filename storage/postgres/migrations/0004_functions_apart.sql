-- Functions have files of their own (`functions/`), applied after the numbered files. Here is what they need.
--
-- Number 0003 held functions only and is gone: a new database goes from 0002 to 0004; one that had 0003 loses its
-- functions here. (Functions of identity, once in 0002, have kept their names: they are replaced.)

DROP FUNCTION IF EXISTS flush, append_row, judge_subjects, change, mark;

ALTER TABLE mark_heads RENAME TO receipt_heads;
ALTER INDEX mark_heads_pkey RENAME TO receipt_heads_pkey;
ALTER TABLE receipt_heads RENAME CONSTRAINT mark_heads_dialog_id_not_null TO receipt_heads_dialog_id_not_null;
ALTER TABLE receipt_heads RENAME CONSTRAINT mark_heads_xid_not_null TO receipt_heads_xid_not_null;

-- Every node writes its table of types at its start, before it writes anything else.
ALTER TABLE dialog_types ADD COLUMN admins_only_write boolean NOT NULL DEFAULT false;
ALTER TABLE dialog_types ALTER COLUMN admins_only_write DROP DEFAULT;

-- What every `change_*` returns: the verdict in each row, and an appended event with its body (none: one row, no body).
CREATE TYPE change_row AS (
    code         smallint,
    seq          bigint,
    at_ms        bigint,
    messages     bigint,
    member_count int,
    roster_seq   bigint,
    keys_seq     bigint,
    event_n      bigint,
    body         bytea
);
