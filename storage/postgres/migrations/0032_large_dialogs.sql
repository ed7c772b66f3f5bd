-- Whose nodes hear of a dialog as one room, and not as its members: `nodes.LARGE_ABOVE`.
--
-- `large`: the dialog has had more members than that while this person was one. It stays when the dialog shrinks: a room
-- too many costs a message now and then, one too few loses events.
ALTER TABLE members ADD COLUMN large boolean NOT NULL DEFAULT false;
UPDATE members m SET large = true FROM heads h WHERE h.dialog_id = m.dialog_id AND h.member_count > 100 AND m.member;

-- What a sync asks: it costs the large dialogs of a person, however many others they are in.
CREATE INDEX members_of_large ON members (principal_id, dialog_id) WHERE large AND member;
