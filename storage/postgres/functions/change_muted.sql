-- A member mutes a dialog for themself; the event is in their own `self` dialog.
CREATE FUNCTION change_muted(
    p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint,
    p_body bytea, p_fields jsonb
) RETURNS SETOF change_row
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    o record;
    v_muted uuid := p_fields ->> 'dialog';
BEGIN
    SELECT * INTO o FROM open_change(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n, p_body);
    IF o.code = ${VerdictCode.OK} THEN
        o.code := CASE
            WHEN role_of_member(v_muted, p_author) IS NULL THEN ${VerdictCode.NOT_FOUND}
            ELSE ${VerdictCode.OK} END;
    END IF;
    IF o.code = ${VerdictCode.OK} THEN
        o.first_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n,
                                  ${tag.Muted}, NULL, p_body, o.now_ms);
        UPDATE members SET muted_until_ms = (p_fields ->> 'until_ms')::bigint, xid = pg_current_xact_id()
        WHERE dialog_id = v_muted AND principal_id = p_author;
    END IF;
    RETURN QUERY SELECT * FROM answer_change(p_dialog, p_n, o.code, o.first_seq, o.last_seq, o.repeats, o.now_ms);
END $$;
