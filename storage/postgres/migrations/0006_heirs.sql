-- The longest-standing member of a dialog: who follows the last admin who leaves.
CREATE INDEX members_by_age ON members (dialog_id, joined_at_ms, principal_id) WHERE member;
