-- An admin makes a member an admin. In a sealed dialog it is signed by who sees the members that there are: who comes
-- later is shown them as of then, and could check nothing older.
CREATE FUNCTION change_promoted(
    p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint,
    p_body bytea, p_fields jsonb
) RETURNS SETOF change_row
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    o record;
    v_member uuid := p_fields ->> 'member';
    v_role smallint;
BEGIN
    SELECT * INTO o FROM open_change(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n, p_body);
    IF o.code = ${VerdictCode.OK} THEN
        v_role := role_of_member(p_dialog, v_member);
        o.code := judge_over_member(o.fixed_roster, o.role, v_role);
    END IF;
    IF o.code = ${VerdictCode.OK} THEN
        SELECT CASE
            WHEN h.mode <> ${Mode.SEALED} THEN o.code
            WHEN p_fields -> 'signed' ->> 'signature' IS NULL THEN ${VerdictCode.SIGNATURE_REQUIRED}
            WHEN (p_fields -> 'signed' -> 'keys_seq')::bigint <> h.keys_seq THEN ${VerdictCode.STALE}
            ELSE o.code END
        INTO o.code FROM heads h WHERE h.dialog_id = p_dialog;
    END IF;
    IF o.code = ${VerdictCode.OK} THEN
        o.first_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n,
                                  ${tag.Promoted}, NULL, p_body, o.now_ms);
        PERFORM set_role(p_dialog, v_member, v_role, ${Role.ADMIN});
        PERFORM note_roster(p_dialog, ARRAY[v_member], o.first_seq);
    END IF;
    RETURN QUERY SELECT * FROM answer_change(p_dialog, p_n, o.code, o.first_seq, o.last_seq, o.repeats, o.now_ms);
END $$;
