-- An admin invites a person into a dialog: an event in the `self` dialog of the person, where the admin is no member.
-- An invitation that is open, or was declined, is the answer to another one, without an event.
CREATE FUNCTION change_invited(
    p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint,
    p_body bytea, p_fields jsonb
) RETURNS SETOF change_row
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    o record;
    v_into uuid := p_fields ->> 'dialog';
    v_invited uuid;
    v_signed boolean := p_fields -> 'signed' ->> 'signature' IS NOT NULL;
    v_code smallint;
    v_body bytea;
    v_seq bigint;
BEGIN
    SELECT m.principal_id INTO v_invited FROM members m JOIN heads h ON h.dialog_id = m.dialog_id
    WHERE m.dialog_id = p_dialog AND h.type = ${DialogType.SELF};
    v_code := judge_invitation(v_into, p_author, v_invited, v_signed);
    -- The dialog's name in the body is the one at the first try; the rest, tag and ids, begins at the second byte.
    SELECT j.body INTO v_body FROM journal j
    WHERE j.dialog_id = p_dialog AND j.device_id = p_device AND j.n = p_n AND j.tag = ${tag.Invited}
      AND substring(j.body FROM 2 FOR 37) = substring(p_body FROM 2 FOR 37);
    IF v_code <> ${VerdictCode.OK} AND v_body IS NULL THEN
        -- A refusal takes no lock: it does not disturb the person, and no time that it takes says anything of them.
        RETURN QUERY SELECT * FROM answer_change(NULL, p_n, v_code, NULL, NULL, false, unix_ms());
        RETURN;
    END IF;

    SELECT * INTO o
    FROM open_change(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n, coalesce(v_body, p_body), true);
    IF o.code = ${VerdictCode.OK} THEN
        o.code := judge_invitation(v_into, p_author, v_invited, v_signed);
    END IF;
    IF o.code = ${VerdictCode.OK} THEN
        UPDATE invitations SET invited_by = p_author
        WHERE principal_id = v_invited AND dialog_id = v_into RETURNING seq INTO v_seq;
        o.code := CASE
            WHEN v_seq IS NOT NULL THEN ${VerdictCode.DUPLICATE}
            WHEN p_fields ? 'over_daily_limit' THEN ${VerdictCode.DAILY_LIMIT}
            WHEN NOT make_room_for_invitation(v_invited, p_author) THEN ${VerdictCode.INVITATIONS_BOUND}
            ELSE ${VerdictCode.OK} END;
        o.first_seq := v_seq;
    END IF;
    IF o.code = ${VerdictCode.OK} THEN
        o.first_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n,
                                  ${tag.Invited}, NULL, p_body, o.now_ms);
        INSERT INTO invitations (principal_id, dialog_id, invited_by, seq)
        VALUES (v_invited, v_into, p_author, o.first_seq);
    END IF;
    RETURN QUERY SELECT * FROM answer_change(p_dialog, p_n, o.code, o.first_seq, o.last_seq, o.repeats, o.now_ms);
END $$;
