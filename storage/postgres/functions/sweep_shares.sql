-- Delete some slices of a share that has reached its age, and the share with its last slice: one that is not live after a
-- day, a live one when slices are kept no longer. Whether there was any. A share that is being swept is not complete any
-- more, so no flush makes half of it live.
CREATE FUNCTION sweep_shares(p_now_ms bigint, p_limit int) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_due shares%ROWTYPE;
    v_rows int;
BEGIN
    SELECT * INTO v_due FROM shares s WHERE NOT s.live AND s.staged_at_ms <= p_now_ms - ${DAY_MS}
    ORDER BY s.staged_at_ms LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        SELECT * INTO v_due FROM shares s
        WHERE s.live AND s.staged_at_ms <= p_now_ms - ${SLICES_KEPT_DAYS} * ${DAY_MS}::bigint
        ORDER BY s.staged_at_ms LIMIT 1 FOR UPDATE SKIP LOCKED;
    END IF;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM slices WHERE ctid = ANY (ARRAY(
        SELECT s.ctid FROM slices s WHERE s.device_id = v_due.device_id AND s.share_id = v_due.share_id LIMIT p_limit));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    IF v_rows < p_limit THEN
        DELETE FROM shares s WHERE s.device_id = v_due.device_id AND s.share_id = v_due.share_id;
    ELSE
        UPDATE shares s SET covered = NULL WHERE s.device_id = v_due.device_id AND s.share_id = v_due.share_id;
    END IF;
    RETURN true;
END $$;
