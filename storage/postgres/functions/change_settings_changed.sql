-- An admin sets name, description, avatar and settings, all of them.
CREATE FUNCTION change_settings_changed(
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
            -- Whoever joins by themself is let in by nobody's signature.
            WHEN (p_fields -> 'settings' ->> 'is_public')::boolean AND (
                SELECT h.mode FROM heads h WHERE h.dialog_id = p_dialog) = ${Mode.SEALED}
                THEN ${VerdictCode.NOT_ALLOWED}
            ELSE ${VerdictCode.OK} END;
    END IF;
    IF o.code = ${VerdictCode.OK} THEN
        o.first_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n,
                                  ${tag.SettingsChanged}, NULL, p_body, o.now_ms);
        UPDATE dialogs SET name = p_fields ->> 'name', description = p_fields ->> 'description',
            avatar_url = p_fields ->> 'avatar_url', is_public = s.is_public, allow_media = s.allow_media,
            message_retention_days = s.message_retention_days, moderation_enabled = s.moderation_enabled
        FROM jsonb_to_record(p_fields -> 'settings') AS s(
            is_public boolean, allow_media boolean, message_retention_days int, moderation_enabled boolean)
        WHERE dialog_id = p_dialog;
        PERFORM set_retention(p_dialog, (p_fields -> 'settings' ->> 'message_retention_days')::int, o.now_ms);
    END IF;
    RETURN QUERY SELECT * FROM answer_change(p_dialog, p_n, o.code, o.first_seq, o.last_seq, o.repeats, o.now_ms);
END $$;
