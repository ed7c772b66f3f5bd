-- An admin adds members, or a person joins a public dialog, or one into which they are invited. New members have read
-- everything before they joined. Into a sealed dialog nobody comes without a signature; whose it is, members check.
--
-- Who joins a dialog that everybody has left becomes its admin: a second event. Of who comes back the newest
-- ${VISIBLE_INTERVALS_MAX} intervals of what they may read are kept.
CREATE FUNCTION change_members_added(
    p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint,
    p_body bytea, p_fields jsonb
) RETURNS SETOF change_row
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    o record;
    v_members uuid[] := ARRAY(SELECT x::uuid FROM jsonb_array_elements_text(p_fields -> 'members') x);
    v_joins boolean := v_members = ARRAY[p_author];
    v_large boolean;
    v_mode smallint;
    v_keys_seq bigint;
    v_signed jsonb := CASE WHEN v_joins THEN p_fields -> 'invitation' -> 'signed' ELSE p_fields -> 'signed' END;
BEGIN
    SELECT * INTO o FROM open_change(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n, p_body,
                                     v_joins AND may_join(p_dialog, p_author));
    IF o.code = ${VerdictCode.OK} THEN
        SELECT h.mode, h.keys_seq INTO v_mode, v_keys_seq FROM heads h WHERE h.dialog_id = p_dialog;
        o.code := CASE
            WHEN o.fixed_roster THEN ${VerdictCode.FIXED_ROSTER}
            WHEN v_joins AND role_of_member(p_dialog, p_author) IS NULL AND NOT may_join(p_dialog, p_author)
                THEN ${VerdictCode.NOT_FOUND}
            WHEN NOT v_joins AND o.role <> ${Role.ADMIN} THEN ${VerdictCode.ROLE_REQUIRED}
            WHEN EXISTS (
                SELECT 1 FROM members m
                WHERE m.dialog_id = p_dialog AND m.principal_id = ANY (v_members) AND m.member)
                THEN ${VerdictCode.ALREADY_MEMBER}
            WHEN o.member_count + cardinality(v_members) > o.members_max THEN ${VerdictCode.MEMBERS_BOUND}
            WHEN v_mode = ${Mode.SEALED} AND v_signed ->> 'signature' IS NULL THEN ${VerdictCode.SIGNATURE_REQUIRED}
            -- The author signs who is there now, so nobody is added to what the author has not seen.
            WHEN v_mode = ${Mode.SEALED} AND NOT v_joins AND (v_signed -> 'keys_seq')::bigint <> v_keys_seq
                THEN ${VerdictCode.STALE}
            WHEN v_mode = ${Mode.SEALED} AND v_joins
                 AND NOT is_roster_near(p_dialog, (v_signed -> 'keys_seq')::bigint) THEN ${VerdictCode.NOT_FOUND}
            ELSE judge_additions(o.tenant_id, p_author, v_members, true, p_fields ? 'over_daily_limit') END;
    END IF;
    IF o.code = ${VerdictCode.OK} THEN
        o.first_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n,
                                  ${tag.MembersAdded}, NULL,
                                  fill_logs(v_mode, v_members, p_body, p_fields), o.now_ms);
        v_large := o.member_count + cardinality(v_members) > ${LARGE_ABOVE};
        IF v_large AND o.member_count <= ${LARGE_ABOVE} THEN
            UPDATE members SET large = true WHERE dialog_id = p_dialog AND member AND NOT large;
        END IF;
        INSERT INTO members (dialog_id, principal_id, role, member, visible, from_seq, joined_at_ms,
                             read, delivered, read_messages, large)
        SELECT p_dialog, s.principal_id, ${Role.MEMBER}, true,
               int8multirange(int8range(CASE WHEN o.full_history THEN 1 ELSE o.first_seq END, NULL)),
               o.first_seq, o.now_ms, o.first_seq, o.first_seq, o.messages, v_large
        FROM unnest(v_members) AS s(principal_id)
        ORDER BY s.principal_id
        ON CONFLICT (dialog_id, principal_id) DO UPDATE SET
            role = excluded.role, member = true,
            visible = (SELECT range_agg(v.part) FROM (
                SELECT part FROM unnest(members.visible + excluded.visible) AS part
                ORDER BY lower(part) DESC LIMIT ${VISIBLE_INTERVALS_MAX}) v),
            from_seq = excluded.from_seq, joined_at_ms = excluded.joined_at_ms, read = excluded.read,
            delivered = excluded.delivered, read_messages = excluded.read_messages, large = excluded.large,
            xid = pg_current_xact_id();
        UPDATE heads SET member_count = member_count + cardinality(v_members), roster_seq = o.first_seq,
            keys_seq = o.first_seq
        WHERE dialog_id = p_dialog;
        DELETE FROM invitations WHERE dialog_id = p_dialog AND principal_id = ANY (v_members);
        PERFORM note_roster(p_dialog, v_members, o.first_seq);
        IF o.member_count = 0 THEN
            PERFORM set_role(p_dialog, p_author, ${Role.MEMBER}, ${Role.ADMIN});
            o.last_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, 0, ${tag.Promoted}, NULL,
                                     ${packed_with_id.Promoted} || uuid_send(p_author), o.now_ms);
            PERFORM note_roster(p_dialog, v_members, o.last_seq);
        END IF;
    END IF;
    RETURN QUERY SELECT * FROM answer_change(p_dialog, p_n, o.code, o.first_seq, o.last_seq, o.repeats, o.now_ms);
END $$;
