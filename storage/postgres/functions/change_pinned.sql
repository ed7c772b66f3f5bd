-- An admin pins a message for all members, or lets none be pinned.
CREATE FUNCTION change_pinned(
    p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint,
    p_body bytea, p_fields jsonb
) RETURNS SETOF change_row
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    o record;
    v_target bigint := p_fields ->> 'target';
BEGIN
    SELECT * INTO o FROM open_change(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n, p_body);
    IF o.code = ${VerdictCode.OK} THEN
        o.code := CASE
            WHEN o.role <> ${Role.ADMIN} THEN ${VerdictCode.ROLE_REQUIRED}
            WHEN is_archived(p_dialog, v_target, o.visible) THEN ${VerdictCode.TARGET_ARCHIVED}
            WHEN v_target IS NOT NULL AND author_of_message(p_dialog, v_target, o.visible) IS NULL
                THEN ${VerdictCode.EVENT_NOT_FOUND}
            ELSE ${VerdictCode.OK} END;
    END IF;
    IF o.code = ${VerdictCode.OK} THEN
        o.first_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n,
                                  ${tag.Pinned}, v_target, p_body, o.now_ms);
        UPDATE dialogs SET pinned = v_target WHERE dialog_id = p_dialog;
    END IF;
    RETURN QUERY SELECT * FROM answer_change(p_dialog, p_n, o.code, o.first_seq, o.last_seq, o.repeats, o.now_ms);
END $$;
