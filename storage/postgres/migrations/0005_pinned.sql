-- The number of the message that an admin has pinned in a dialog, if any.
ALTER TABLE dialogs ADD COLUMN pinned bigint;
