-- What members report to moderators of sealed dialogs, and the proof of what they report.
--
-- Invariants
--   * Whoever blanks a row of a sealed dialog notes its commitment in `erased_commitments`, in the same transaction; the
--     mover does so before it erases a row that only the archive has. It can be reported until `until_ms`.
--   * `target` is the message that an edit or a reaction is about; NULL for a message, whatever it replies to.
--   * A report is sealed to the moderators' key: nothing of what was written, nor why it was reported, is in the clear.
CREATE TABLE erased_commitments (
    dialog_id  uuid NOT NULL,
    seq        bigint NOT NULL,
    author_id  uuid NOT NULL,
    device_id  uuid NOT NULL,
    n          bigint NOT NULL,
    tag        smallint NOT NULL,
    target     bigint,
    commitment bytea NOT NULL,
    until_ms   bigint NOT NULL,
    PRIMARY KEY (dialog_id, seq)
);
CREATE INDEX erased_commitments_due ON erased_commitments (until_ms);

CREATE TABLE reports (
    report_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_ms       bigint NOT NULL,
    until_ms    bigint NOT NULL,
    reporter_id uuid NOT NULL,
    author_id   uuid NOT NULL,
    dialog_id   uuid NOT NULL,
    seq         bigint NOT NULL,
    sealed      bytea NOT NULL,
    UNIQUE (dialog_id, seq, reporter_id)
);
CREATE INDEX reports_due ON reports (until_ms);
