-- The newest edit of a message and its deletion, however many reactions came after them. With the tag in the index, no
-- plan prefers the index that has the reactions, too.
CREATE INDEX journal_of_edits ON journal (dialog_id, target, tag, seq) WHERE tag IN (2, 3);
