-- A person ends a block; the event is in their own `self` dialog.
CREATE FUNCTION change_unblocked(
    p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint,
    p_body bytea, p_fields jsonb
) RETURNS SETOF change_row
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    o record;
    v_principal uuid := p_fields ->> 'principal';
BEGIN
    SELECT * INTO o FROM open_change(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n, p_body);
    IF o.code = ${VerdictCode.OK} THEN
        o.code := judge_other(o.tenant_id, p_author, v_principal);
    END IF;
    IF o.code = ${VerdictCode.OK} THEN
        o.first_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n,
                                  ${tag.Unblocked}, NULL, p_body, o.now_ms);
        DELETE FROM blocks WHERE blocked_id = v_principal AND blocker_id = p_author;
    END IF;
    RETURN QUERY SELECT * FROM answer_change(p_dialog, p_n, o.code, o.first_seq, o.last_seq, o.repeats, o.now_ms);
END $$;
