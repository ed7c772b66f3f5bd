-- Create a dialog with all its members. If it is a `self` or direct dialog that exists, answer with that one. A sealed one
-- whose members can change is signed; whose signature it is, members check.
CREATE FUNCTION change_dialog_created(
    p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint,
    p_body bytea, p_fields jsonb
) RETURNS SETOF change_row
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    o record;
    v_author principals%ROWTYPE;
    v_rule dialog_types%ROWTYPE;
    v_members uuid[];
    v_roles smallint[];
    v_code smallint;
    v_now_ms bigint;
    v_seq bigint;
BEGIN
    PERFORM hold_incarnation(p_incarnation, p_flush_no);
    SELECT * INTO v_author FROM principals p WHERE p.principal_id = p_author;
    SELECT * INTO v_rule FROM dialog_types t WHERE t.type = (p_fields ->> 'type')::smallint;
    SELECT array_agg(m.principal), array_agg(m.role) INTO v_members, v_roles
    FROM jsonb_to_recordset(p_fields -> 'members') AS m(principal uuid, role smallint);
    v_code := CASE
        WHEN v_author.status IS DISTINCT FROM ${PrincipalStatus.ACTIVE} THEN ${VerdictCode.SUSPENDED}
        WHEN cardinality(v_members) NOT BETWEEN v_rule.members_min AND v_rule.members_max
            THEN ${VerdictCode.MEMBERS_BOUND}
        WHEN (p_fields ->> 'mode')::smallint = ${Mode.SEALED} AND NOT v_rule.fixed_roster
             AND p_fields ->> 'signature' IS NULL THEN ${VerdictCode.SIGNATURE_REQUIRED}
        ELSE judge_additions(v_author.tenant_id, p_author, v_members, v_rule.type <> ${DialogType.DIRECT},
                             p_fields ? 'over_daily_limit') END;
    IF v_code = ${VerdictCode.OK} THEN
        -- A concurrent creation of the same dialog makes this insert wait, then do nothing.
        INSERT INTO heads (dialog_id, tenant_id, type, mode, admins_only, seq, messages, roster_seq, keys_seq,
                           member_count, admin_count, xid)
        SELECT p_dialog, v_author.tenant_id, v_rule.type, (p_fields ->> 'mode')::smallint, v_rule.admins_only_write,
               0, 0, 1, 0, cardinality(v_members), cardinality(array_positions(v_roles, ${Role.ADMIN}::smallint)),
               pg_current_xact_id()
        ON CONFLICT DO NOTHING;
    END IF;
    IF v_code <> ${VerdictCode.OK} OR NOT FOUND THEN
        PERFORM 1 FROM heads h WHERE h.dialog_id = p_dialog FOR NO KEY UPDATE;
        SELECT * INTO o FROM find_first_ack(p_dialog, p_author, p_device, p_n, p_body);
        IF o.code IS NULL AND v_rule.type IN (${DialogType.SELF}, ${DialogType.DIRECT})
           AND role_of_member(p_dialog, p_author) IS NOT NULL THEN
            -- The types are those of `find_first_ack`: a connection keeps the plans below, made for one type of each.
            SELECT ${VerdictCode.DUPLICATE}::smallint AS code, j.seq AS first_seq, j.seq AS last_seq,
                   j.device_id = p_device AND j.n = p_n AS repeats
            INTO o FROM journal j WHERE j.dialog_id = p_dialog AND j.seq = 1;
        END IF;
        v_code := coalesce(o.code, nullif(v_code, ${VerdictCode.OK}), ${VerdictCode.NOT_FOUND});
        RETURN QUERY
        SELECT * FROM answer_change(p_dialog, p_n, v_code, o.first_seq, o.last_seq, o.repeats, unix_ms());
        RETURN;
    END IF;

    v_now_ms := unix_ms();
    v_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n,
                        ${tag.DialogCreated}, NULL,
                        fill_logs((p_fields ->> 'mode')::smallint, v_members, p_body, p_fields), v_now_ms);
    INSERT INTO dialogs (dialog_id, name, description, avatar_url, is_public, allow_media, message_retention_days,
                         moderation_enabled, created_by, created_at_ms)
    SELECT p_dialog, p_fields ->> 'name', p_fields ->> 'description', p_fields ->> 'avatar_url',
           s.is_public, s.allow_media, s.message_retention_days, s.moderation_enabled, p_author, v_now_ms
    FROM jsonb_to_record(p_fields -> 'settings') AS s(
        is_public boolean, allow_media boolean, message_retention_days int, moderation_enabled boolean);
    PERFORM set_retention(p_dialog, (p_fields -> 'settings' ->> 'message_retention_days')::int, v_now_ms);
    INSERT INTO members (dialog_id, principal_id, role, member, visible, from_seq, joined_at_ms, large)
    SELECT p_dialog, m.principal, m.role, true, '{[1,)}', v_seq, v_now_ms, cardinality(v_members) > ${LARGE_ABOVE}
    FROM unnest(v_members, v_roles) AS m(principal, role);
    PERFORM note_roster(p_dialog, v_members, v_seq);
    IF v_rule.type = ${DialogType.DIRECT} THEN
        INSERT INTO contacts (principal_id, other_id)
        SELECT p_author, m.principal FROM unnest(v_members) AS m(principal) WHERE m.principal <> p_author;
    END IF;
    RETURN QUERY SELECT * FROM answer_change(p_dialog, p_n, v_code, v_seq, NULL, false, v_now_ms);
END $$;
