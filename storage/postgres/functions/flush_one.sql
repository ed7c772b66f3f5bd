-- `flush` of one row, for half of what that costs: a row that is plainly fine is appended by three short statements; any
-- other goes to `flush`, in the same transaction and under the same lock.
--
-- Plainly fine is what an active member writes, with a device that has written there before, into a dialog that lives and
-- refuses nobody: no reply to a repeated number, about no other event, and in a sealed dialog under the session that its
-- device last shared there. It locks the head and judges then, in a statement of its own, as `flush` does and for the same
-- reason; a head that is locked goes to `flush`, too, which tells a stranger from one who must wait.
CREATE FUNCTION flush_one(
    p_incarnation bigint, p_flush_no bigint,
    p_dialog uuid, p_author uuid, p_device uuid, p_n bigint, p_tag smallint,
    p_keys_seq bigint, p_expires_at_ms bigint, p_counts boolean, p_body bytea, p_session bytea,
    OUT code smallint, OUT seq bigint, OUT at_ms bigint, OUT messages bigint,
    OUT member_count int, OUT roster_seq bigint, OUT keys_seq bigint, OUT erased boolean
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_lives boolean := pg_try_advisory_xact_lock_shared(${INCARNATION_LOCKS}, p_incarnation::int);
    v_head record;
    v_fine boolean;
    v_xid xid8;
BEGIN
    SELECT h.*, (SELECT i.ended_at_ms IS NULL AND p_flush_no > i.overtaken
                 FROM incarnations i WHERE i.incarnation = p_incarnation) AS may_write
    INTO v_head FROM heads h
    WHERE h.dialog_id = p_dialog
      AND (SELECT true FROM members m WHERE m.dialog_id = p_dialog AND m.principal_id = p_author)
    FOR NO KEY UPDATE SKIP LOCKED;
    IF FOUND AND v_lives AND v_head.may_write AND NOT v_head.deleted THEN
        SELECT true INTO v_fine FROM members m, principals p, authors a
        WHERE m.dialog_id = p_dialog AND m.principal_id = p_author AND m.member
          AND (m.role = ${Role.ADMIN} OR NOT v_head.admins_only)
          AND p.principal_id = p_author AND p.tenant_id = v_head.tenant_id AND p.status = ${PrincipalStatus.ACTIVE}
          AND a.dialog_id = p_dialog AND a.device_id = p_device AND a.last_n < p_n
          AND CASE v_head.mode WHEN ${Mode.SEALED}
              THEN p_keys_seq = v_head.keys_seq AND a.shared_keys_seq = v_head.keys_seq AND a.session = p_session
              ELSE true END
          AND CASE v_head.type WHEN ${DialogType.DIRECT}
              THEN NOT EXISTS (SELECT FROM blocks b JOIN members o
                               ON o.dialog_id = p_dialog AND o.principal_id = b.blocker_id
                               WHERE b.blocked_id = p_author)
              ELSE true END;
    END IF;
    IF v_fine THEN
        code := ${VerdictCode.OK};
        seq := v_head.seq + 1;
        at_ms := unix_ms();
        messages := v_head.messages + p_counts::int;
        member_count := v_head.member_count;
        roster_seq := v_head.roster_seq;
        keys_seq := v_head.keys_seq;
        erased := false;
        v_xid := greatest(pg_current_xact_id(), v_head.xid);
        WITH headed AS (
            UPDATE heads h SET seq = flush_one.seq, messages = flush_one.messages, xid = v_xid WHERE h.dialog_id = p_dialog
        ), counted AS (
            UPDATE authors a SET last_n = p_n WHERE a.dialog_id = p_dialog AND a.device_id = p_device
        )
        INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, at_ms, messages,
                             expires_at_ms, incarnation, flush_no, body, xid)
        VALUES (p_dialog, flush_one.seq, p_author, p_device, p_n, p_tag, flush_one.at_ms, flush_one.messages,
                p_expires_at_ms, p_incarnation, p_flush_no, p_body, v_xid);
    ELSE
        SELECT f.code, f.seq, f.at_ms, f.messages, f.member_count, f.roster_seq, f.keys_seq, f.erased
        INTO code, seq, at_ms, messages, member_count, roster_seq, keys_seq, erased
        FROM flush(p_incarnation, p_flush_no, false, ARRAY[p_dialog], ARRAY[p_author], ARRAY[p_device], ARRAY[p_n],
                   ARRAY[p_tag], NULL, ARRAY[p_keys_seq], ARRAY[p_expires_at_ms], ARRAY[p_counts], ARRAY[p_body],
                   ARRAY[p_session], NULL, NULL) f;
    END IF;
END $$;
