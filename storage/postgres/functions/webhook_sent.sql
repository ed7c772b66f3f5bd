-- The receiver took `p_sent` events, and everything up to `p_seq` of this dialog is done.
CREATE FUNCTION webhook_sent(p_principal uuid, p_dialog uuid, p_seq bigint, p_sent int) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    UPDATE webhooks SET sent = sent + p_sent, failures = CASE p_sent WHEN 0 THEN failures ELSE 0 END,
        failing_since_ms = CASE p_sent WHEN 0 THEN failing_since_ms END
    WHERE principal_id = p_principal;
    IF FOUND THEN  -- it may have been removed meanwhile
        INSERT INTO webhook_positions AS w (principal_id, dialog_id, seq) VALUES (p_principal, p_dialog, p_seq)
        ON CONFLICT (principal_id, dialog_id) DO UPDATE SET
            seq = greatest(w.seq, excluded.seq), tries = 0, next_at_ms = 0;
    END IF;
END $$;
