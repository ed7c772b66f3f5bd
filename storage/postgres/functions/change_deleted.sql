-- A message is erased by its author, or by an admin. One row changes, however much hangs on it (`erase_message`).
CREATE FUNCTION change_deleted(
    p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint,
    p_body bytea, p_fields jsonb
) RETURNS SETOF change_row
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    o record;
    v_target bigint := p_fields ->> 'target';
    v_written_by uuid;
    v_archived boolean;
BEGIN
    SELECT * INTO o FROM open_change(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n, p_body);
    IF o.code = ${VerdictCode.OK} THEN
        -- In one snapshot: somebody may put the message back at this moment.
        SELECT author_of_message(p_dialog, v_target, o.visible), is_archived(p_dialog, v_target, o.visible)
        INTO v_written_by, v_archived;
        o.code := CASE
            WHEN v_archived THEN ${VerdictCode.TARGET_ARCHIVED}
            WHEN v_written_by IS NULL OR (v_written_by <> p_author AND o.role <> ${Role.ADMIN})
                THEN ${VerdictCode.EVENT_NOT_FOUND}
            WHEN o.now_ms < (SELECT kept_until(j.body, j.at_ms) FROM journal j
                             WHERE j.dialog_id = p_dialog AND j.seq = v_target) THEN ${VerdictCode.NOT_ALLOWED}
            ELSE ${VerdictCode.OK} END;
    END IF;
    IF o.code = ${VerdictCode.OK} THEN
        o.first_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n,
                                  ${tag.Deleted}, v_target, p_body, o.now_ms);
        -- The head's lock is held: nothing can be added to the message any more, so the rest is due at once.
        PERFORM erase_message(p_dialog, v_target, o.now_ms);
    END IF;
    RETURN QUERY SELECT * FROM answer_change(p_dialog, p_n, o.code, o.first_seq, o.last_seq, o.repeats, o.now_ms);
END $$;
