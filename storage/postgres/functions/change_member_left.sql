-- A member leaves; when it is the last admin, the longest-standing member becomes one: a second event.
CREATE FUNCTION change_member_left(
    p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint,
    p_body bytea, p_fields jsonb
) RETURNS SETOF change_row
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    o record;
    v_heir uuid;
BEGIN
    SELECT * INTO o FROM open_change(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n, p_body);
    IF o.code = ${VerdictCode.OK} THEN
        o.code := CASE
            WHEN o.fixed_roster THEN ${VerdictCode.FIXED_ROSTER}
            ELSE ${VerdictCode.OK} END;
    END IF;
    IF o.code = ${VerdictCode.OK} THEN
        o.first_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n,
                                  ${tag.MemberLeft}, NULL, p_body, o.now_ms);
        IF o.role = ${Role.ADMIN} AND o.admin_count = 1 THEN
            SELECT m.principal_id INTO v_heir FROM members m
            WHERE m.dialog_id = p_dialog AND m.member AND m.principal_id <> p_author
            ORDER BY m.from_seq, m.principal_id LIMIT 1;
            -- `raise_receipts` locks in the order of keys: lock both rows in that order, too.
            PERFORM 1 FROM members m WHERE m.dialog_id = p_dialog AND m.principal_id = ANY (ARRAY[p_author, v_heir])
            ORDER BY m.principal_id FOR NO KEY UPDATE;
        END IF;
        PERFORM end_membership(p_dialog, p_author, o.role, o.first_seq);
        IF v_heir IS NOT NULL THEN
            PERFORM set_role(p_dialog, v_heir, ${Role.MEMBER}, ${Role.ADMIN});
            o.last_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, 0, ${tag.Promoted}, NULL,
                                     ${packed_with_id.Promoted} || uuid_send(v_heir), o.now_ms);
        END IF;
        -- Who follows is an admin from here on: clients compute it from this event.
        PERFORM note_roster(p_dialog, ARRAY[p_author, v_heir], o.first_seq);
    END IF;
    RETURN QUERY SELECT * FROM answer_change(p_dialog, p_n, o.code, o.first_seq, o.last_seq, o.repeats, o.now_ms);
END $$;
