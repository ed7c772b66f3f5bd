-- Dialogs that were deleted: nothing is added to them any more, and after a grace they are purged.
--
-- Invariants
--   * `heads.deleted` is set once and for good. The head of a purged dialog stays: it refuses what is late, and no number
--     is given again.
--   * A deleted dialog is in `deleted_dialogs` until a look a day after its purge has found nothing of it but its head.
--   * Its grace counts from `grace_from_ms`: the deletion, or a later time when it is looked at again. The look that is
--     under way has passed `done_seq`; `found`: it met something; `kept_until_ms`: until then something must be kept.
ALTER TABLE heads ADD COLUMN deleted boolean NOT NULL DEFAULT false;
CREATE TABLE deleted_dialogs (
    dialog_id     uuid PRIMARY KEY,
    grace_from_ms bigint NOT NULL,
    done_seq      bigint NOT NULL DEFAULT 0,
    found         boolean NOT NULL DEFAULT false,
    kept_until_ms bigint
);
CREATE INDEX deleted_dialogs_due ON deleted_dialogs (grace_from_ms);
CREATE INDEX invitations_into ON invitations (dialog_id);
