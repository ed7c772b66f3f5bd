-- The server says in a sealed dialog that the device log of a member has grown: who seals there needs their devices anew.
CREATE FUNCTION change_devices_changed(
    p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint,
    p_body bytea, p_fields jsonb
) RETURNS SETOF change_row
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    o record;
BEGIN
    SELECT * INTO o FROM open_change(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n, p_body);
    IF o.code = ${VerdictCode.OK} AND NOT EXISTS (
        SELECT 1 FROM heads h WHERE h.dialog_id = p_dialog AND h.mode = ${Mode.SEALED}) THEN
        o.code := ${VerdictCode.NOT_ALLOWED};
    END IF;
    IF o.code = ${VerdictCode.OK} THEN
        o.first_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n,
                                  ${tag.DevicesChanged}, NULL, p_body, o.now_ms);
        UPDATE heads SET keys_seq = o.first_seq WHERE dialog_id = p_dialog;
    END IF;
    RETURN QUERY SELECT * FROM answer_change(p_dialog, p_n, o.code, o.first_seq, o.last_seq, o.repeats, o.now_ms);
END $$;
