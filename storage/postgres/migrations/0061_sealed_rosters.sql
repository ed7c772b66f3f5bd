-- The rosters of sealed dialogs as their events tell them, and the device logs that have grown since.
--
-- Invariants
--   * `roster_intervals` has what a member was from one event of a sealed dialog (`from_seq`) up to another (`until_seq`;
--     9223372036854775807: they are it now): the role, the event with which they joined, and their device log as the
--     events up to there say. So the members after event N are the rows with `from_seq` <= N < `until_seq`.
--   * Dialogs from before have rows of what has changed since.
--   * `log_announcements` has whose log has grown, and up to which of their dialogs (`after`) it was announced.
CREATE TABLE roster_intervals (
    dialog_id    uuid NOT NULL,
    until_seq    bigint NOT NULL DEFAULT 9223372036854775807,
    principal_id uuid NOT NULL,
    from_seq     bigint NOT NULL,
    role         smallint NOT NULL,
    joined_seq   bigint NOT NULL,
    generation   bigint NOT NULL,
    length       int NOT NULL,
    head         bytea NOT NULL,
    PRIMARY KEY (dialog_id, until_seq, principal_id)
);

CREATE TABLE log_announcements (
    principal_id uuid PRIMARY KEY,
    turn         bigint GENERATED ALWAYS AS IDENTITY,
    after        uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000'
);
CREATE INDEX log_announcements_by_turn ON log_announcements (turn);
INSERT INTO log_announcements (principal_id) SELECT i.principal_id FROM identities i WHERE i.length > 0;
