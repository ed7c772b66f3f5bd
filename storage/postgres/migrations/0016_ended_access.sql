-- Whose access has ended lately: every node closes the sessions that it has of them.
--
-- Invariants
--   * A row is written in the transaction that ends a sign-in, or suspends or deletes a principal (`note_ended_access`).
--   * A node reads the rows with an `xid` from its last snapshot's horizon on: what committed late is not skipped.
--   * Rows are kept for an hour. A node that stands still for so long has been ended.

CREATE TABLE ended_access (
    xid          xid8 NOT NULL DEFAULT pg_current_xact_id(),
    at_ms        bigint NOT NULL,
    principal_id uuid NOT NULL,
    sign_in_id   uuid,
    why          smallint NOT NULL
);
CREATE INDEX ended_access_new ON ended_access (xid);
CREATE INDEX ended_access_old ON ended_access (at_ms);
