-- What a repetition and a return to a session are known by.
--   * `authors.share` is the last share of its device in the dialog that became live.
--   * A session that its device has left keeps its row in `handed_sessions` for a while, without devices: `left_at_ms`.
ALTER TABLE authors ADD COLUMN share uuid;
ALTER TABLE handed_sessions ADD COLUMN left_at_ms bigint;
CREATE INDEX handed_sessions_left ON handed_sessions (left_at_ms) WHERE left_at_ms IS NOT NULL;
CREATE INDEX shares_by_dialog ON shares (dialog_id);
