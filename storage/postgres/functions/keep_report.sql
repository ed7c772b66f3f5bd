-- Store a report, once for each reporter and message, and note in the audit trail that there was one.
CREATE FUNCTION keep_report(
    p_now_ms bigint, p_until_ms bigint, p_reporter uuid, p_author uuid, p_dialog uuid, p_seq bigint, p_sealed bytea
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    INSERT INTO reports (at_ms, until_ms, reporter_id, author_id, dialog_id, seq, sealed)
    VALUES (p_now_ms, p_until_ms, p_reporter, p_author, p_dialog, p_seq, p_sealed)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM note_audit(p_now_ms, h.tenant_id, 'message.reported', p_reporter, p_author, NULL)
        FROM heads h WHERE h.dialog_id = p_dialog;
    END IF;
END $$;
