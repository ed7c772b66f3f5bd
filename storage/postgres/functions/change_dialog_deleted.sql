-- An admin deletes the dialog, for all: nothing can be added to it any more, and after a grace it is purged.
CREATE FUNCTION change_dialog_deleted(
    p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint,
    p_body bytea, p_fields jsonb
) RETURNS SETOF change_row
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    o record;
BEGIN
    SELECT * INTO o FROM open_change(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n, p_body);
    IF o.code = ${VerdictCode.OK} THEN
        o.code := CASE
            WHEN o.role <> ${Role.ADMIN} THEN ${VerdictCode.ROLE_REQUIRED}
            ELSE ${VerdictCode.OK} END;
    END IF;
    IF o.code = ${VerdictCode.OK} THEN
        o.first_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n,
                                  ${tag.DialogDeleted}, NULL, p_body, o.now_ms);
        UPDATE heads SET deleted = true WHERE dialog_id = p_dialog;
        INSERT INTO deleted_dialogs (dialog_id, grace_from_ms) VALUES (p_dialog, o.now_ms);
    END IF;
    RETURN QUERY SELECT * FROM answer_change(p_dialog, p_n, o.code, o.first_seq, o.last_seq, o.repeats, o.now_ms);
END $$;
