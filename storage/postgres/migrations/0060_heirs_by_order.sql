-- The longest-standing member is who joined with the lowest event, which clients compute, too: clocks may go backwards.
DROP INDEX members_by_age;
CREATE INDEX members_by_age ON members (dialog_id, from_seq, principal_id) WHERE member;
