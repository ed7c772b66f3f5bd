-- Begin a change of a dialog: lock its head, answer a repetition, judge what holds for every change.
--
-- `code` is OK when there is no reason yet to refuse: the caller goes on with its own judgments. The other columns are
-- facts for them, which hold until the commit; of a repetition, the rows to answer with (`find_first_ack`). With
-- `p_admitted` the author need not be a member: the caller has judged without the lock that they may make this change
-- nevertheless, and judges it again. Any other stranger is refused before the lock: see `flush`.
CREATE FUNCTION open_change(
    p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint, p_body bytea,
    p_admitted boolean DEFAULT false,
    OUT code smallint, OUT first_seq bigint, OUT last_seq bigint, OUT repeats boolean, OUT now_ms bigint,
    OUT tenant_id smallint, OUT role smallint, OUT visible int8multirange,
    OUT member_count int, OUT admin_count int, OUT messages bigint,
    OUT members_max int, OUT fixed_roster boolean, OUT full_history boolean
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_type smallint;
    v_author principals%ROWTYPE;
    v_is_member boolean;
    v_deleted boolean;
BEGIN
    PERFORM hold_incarnation(p_incarnation, p_flush_no);
    IF NOT EXISTS (SELECT 1 FROM members m WHERE m.dialog_id = p_dialog AND m.principal_id = p_author)
       AND NOT p_admitted THEN
        code := ${VerdictCode.NOT_FOUND};
        now_ms := unix_ms();
        RETURN;
    END IF;
    SELECT h.type, h.tenant_id, h.deleted, h.member_count, h.admin_count, h.messages
    INTO v_type, tenant_id, v_deleted, member_count, admin_count, messages
    FROM heads h WHERE h.dialog_id = p_dialog FOR NO KEY UPDATE;
    now_ms := unix_ms();
    IF v_type IS NULL THEN
        code := ${VerdictCode.NOT_FOUND};
        RETURN;
    END IF;
    SELECT * INTO code, first_seq, last_seq, repeats FROM find_first_ack(p_dialog, p_author, p_device, p_n, p_body);
    IF code IS NOT NULL THEN
        RETURN;
    END IF;

    SELECT t.members_max, t.fixed_roster, t.full_history INTO members_max, fixed_roster, full_history
    FROM dialog_types t WHERE t.type = v_type;
    SELECT * INTO v_author FROM principals p WHERE p.principal_id = p_author;
    SELECT m.member, m.role, m.visible INTO v_is_member, role, visible
    FROM members m WHERE m.dialog_id = p_dialog AND m.principal_id = p_author;
    code := CASE
        WHEN v_author.tenant_id IS DISTINCT FROM open_change.tenant_id OR v_deleted THEN ${VerdictCode.NOT_FOUND}
        WHEN v_is_member IS NOT TRUE AND NOT p_admitted THEN ${VerdictCode.NOT_FOUND}
        WHEN p_n > 0 AND p_n <= (SELECT a.last_n FROM authors a
                                 WHERE a.dialog_id = p_dialog AND a.device_id = p_device)
            THEN ${VerdictCode.NUMBER_PASSED}
        WHEN v_author.status <> ${PrincipalStatus.ACTIVE} THEN ${VerdictCode.SUSPENDED}
        ELSE ${VerdictCode.OK} END;
END $$;
