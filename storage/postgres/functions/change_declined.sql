-- A person declines an invitation; the event is in their own `self` dialog. The row stays: the same dialog does not ask
-- again.
CREATE FUNCTION change_declined(
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
        UPDATE invitations SET declined = true
        WHERE principal_id = p_author AND dialog_id = (p_fields ->> 'dialog')::uuid AND NOT declined;
        o.code := CASE WHEN FOUND THEN ${VerdictCode.OK} ELSE ${VerdictCode.NOT_FOUND} END;
    END IF;
    IF o.code = ${VerdictCode.OK} THEN
        o.first_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n,
                                  ${tag.Declined}, NULL, p_body, o.now_ms);
    END IF;
    RETURN QUERY SELECT * FROM answer_change(p_dialog, p_n, o.code, o.first_seq, o.last_seq, o.repeats, o.now_ms);
END $$;
