-- Several nodes on one database: each shows by its lease that it works, and reads what the others wrote.

-- Apart from `incarnations`, which every flush looks at: its rows must not change each second.
CREATE TABLE leases (
    incarnation bigint PRIMARY KEY,
    lease       bigint NOT NULL
) WITH (fillfactor = 50);

-- All rows of a fenced incarnation have a stamp below `fenced_xid`: when a horizon has passed it, they have been read.
-- Null of those that were fenced before, of which nobody reads anything any more.
ALTER TABLE incarnations ADD COLUMN fenced_xid xid8;
CREATE INDEX incarnations_fenced ON incarnations (fenced_xid);

-- Stamps hardly ever fall, so a row is put at the end of this index, and those of one flush share an entry.
CREATE INDEX journal_by_stamp ON journal (xid, incarnation);
