-- Append one row to a timeline whose head the caller has locked; returns its number. Its stamp: see `flush`.
CREATE FUNCTION append_row(
    p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint,
    p_tag int, p_target bigint, p_body bytea, p_now_ms bigint
) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_head heads%ROWTYPE;
BEGIN
    UPDATE heads SET seq = seq + 1, xid = greatest(pg_current_xact_id(), xid)
    WHERE dialog_id = p_dialog RETURNING * INTO v_head;
    INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, target, at_ms, messages,
                         incarnation, flush_no, body, xid)
    VALUES (p_dialog, v_head.seq, p_author, p_device, p_n, p_tag, p_target, p_now_ms, v_head.messages,
            p_incarnation, p_flush_no, p_body, v_head.xid);
    IF p_n > 0 THEN
        INSERT INTO authors VALUES (p_dialog, p_device, p_n)
        ON CONFLICT (dialog_id, device_id) DO UPDATE SET last_n = excluded.last_n;
    END IF;
    RETURN v_head.seq;
END $$;
