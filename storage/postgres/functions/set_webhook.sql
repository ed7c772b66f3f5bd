-- Have the events of a bot posted to this address, under a new secret whose number is returned; what came before the
-- first call is not posted.
CREATE FUNCTION set_webhook(p_now_ms bigint, p_principal uuid, p_url text) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_secret_no int;
    v_new boolean;
BEGIN
    INSERT INTO webhooks AS w (principal_id, url, secret_no) VALUES (p_principal, p_url, 1)
    ON CONFLICT (principal_id) DO UPDATE SET
        url = excluded.url, secret_no = w.secret_no + 1, failures = 0, failing_since_ms = NULL, next_at_ms = 0,
        paused_at_ms = NULL, last_error = ''
    RETURNING w.secret_no, w.secret_no = 1 INTO v_secret_no, v_new;
    IF v_new THEN
        INSERT INTO webhook_positions (principal_id, dialog_id, seq)
        SELECT p_principal, h.dialog_id, h.seq FROM members m JOIN heads h ON h.dialog_id = m.dialog_id
        WHERE m.principal_id = p_principal;
    END IF;
    PERFORM note_audit(p_now_ms, (SELECT tenant_id FROM principals WHERE principal_id = p_principal), 'webhook.set',
                       p_principal, p_principal, NULL);
    RETURN v_secret_no;
END $$;
