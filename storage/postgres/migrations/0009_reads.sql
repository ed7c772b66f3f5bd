-- `tag` and `member` are in these indexes so that no plan prefers a wider index, whatever it knows of the tables.

-- The newest edit of a message and its deletion, however many reactions came after them.
CREATE INDEX journal_of_edits ON journal (dialog_id, target, tag, seq) WHERE tag IN (2, 3);

-- The members of a dialog in the order of their ids, without a look at those who have left, however many.
CREATE INDEX members_present ON members (dialog_id, member, principal_id) WHERE member;
