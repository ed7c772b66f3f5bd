-- Note whom somebody knows: the other one of a direct dialog in which they write (`judge_consent`). It runs once for each
-- device and dialog, when the device has its first row in `authors`: so `flush` does not pay for it with each message.
-- (`change_dialog_created` notes it of the creator: the members are not there yet when the first event is appended.)
CREATE OR REPLACE FUNCTION note_contact() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO contacts (principal_id, other_id)
    SELECT j.author_id, m.principal_id
    FROM heads h
    JOIN journal j ON j.dialog_id = h.dialog_id AND j.device_id = NEW.device_id AND j.n = NEW.last_n
    JOIN members m ON m.dialog_id = h.dialog_id AND m.principal_id <> j.author_id
    WHERE h.dialog_id = NEW.dialog_id AND h.type = ${DialogType.DIRECT}
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER authors_know AFTER INSERT ON authors
    FOR EACH ROW EXECUTE FUNCTION note_contact();
