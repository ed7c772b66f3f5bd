-- One step of the purge of the dialog whose grace ended first: delete about `p_limit` rows of it. `dialog` null: no grace
-- has ended. `ended`: this step met nothing more, so the archive is next, then `finish_dialog_purge`.
--
-- Its name and its members go first, so nobody reads, or puts back, what is being deleted. The head stays.
CREATE FUNCTION purge_dialog(
    p_now_ms bigint, p_grace_ms bigint, p_limit int,
    OUT rows int, OUT dialog uuid, OUT grace_from_ms bigint, OUT ended boolean, OUT last_seq bigint, OUT epoch bigint,
    OUT archived boolean
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    t deleted_dialogs%ROWTYPE;
    v_table text;
    v_left int := p_limit;
    v_rows int;
    v_last bigint;
BEGIN
    rows := 0;
    ended := false;
    SELECT * INTO t FROM deleted_dialogs x WHERE x.grace_from_ms <= p_now_ms - p_grace_ms
    ORDER BY x.grace_from_ms LIMIT 1 FOR UPDATE;
    dialog := t.dialog_id;
    IF dialog IS NULL THEN
        RETURN;
    END IF;
    DELETE FROM slices WHERE ctid = ANY (ARRAY(
        SELECT s.ctid FROM shares h JOIN slices s ON s.device_id = h.device_id AND s.share_id = h.share_id
        WHERE h.dialog_id = t.dialog_id LIMIT v_left));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_left := v_left - v_rows;
    FOREACH v_table IN ARRAY ARRAY['dialogs', 'retention', 'members', 'roster_intervals', 'receipt_heads',
                                   'invitations', 'authors', 'erasures', 'archive_erasures', 'put_back',
                                   'erased_commitments', 'handed_sessions', 'shares']
    LOOP
        EXECUTE format(
            'DELETE FROM %1$I WHERE ctid = ANY (ARRAY(SELECT ctid FROM %1$I WHERE dialog_id = $1 LIMIT $2))', v_table)
        USING dialog, v_left;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        v_left := v_left - v_rows;
    END LOOP;
    IF v_left > 0 THEN
        WITH page AS MATERIALIZED (
            SELECT j.seq FROM journal j WHERE j.dialog_id = t.dialog_id AND j.seq > t.done_seq ORDER BY j.seq LIMIT v_left
        ), deleted AS (
            DELETE FROM journal j USING page p
            WHERE j.dialog_id = t.dialog_id AND j.seq = p.seq
        )
        SELECT count(*), max(p.seq) INTO v_rows, v_last FROM page p;
        v_left := v_left - v_rows;
    END IF;
    rows := p_limit - v_left;
    UPDATE deleted_dialogs x
    SET done_seq = coalesce(v_last, x.done_seq), found = x.found OR v_left < p_limit
    WHERE x.dialog_id = t.dialog_id;
    ended := v_left = p_limit;  -- a row that somebody changed meanwhile is met by the next step
    SELECT t.grace_from_ms, h.seq, d.epoch, EXISTS (SELECT FROM archiving) INTO grace_from_ms, last_seq, epoch, archived
    FROM heads h, deployment d WHERE h.dialog_id = t.dialog_id;
END $$;
