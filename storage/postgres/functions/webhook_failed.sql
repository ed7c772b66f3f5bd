-- An attempt to post the event `p_seq` failed, `p_tries` of them count: when the next one is due, of this dialog and of the
-- webhook. With `p_give_up` the event is left out. A webhook without a success since `p_pause_if_since_ms` is paused; returns whether it is.
CREATE FUNCTION webhook_failed(
    p_now_ms bigint, p_principal uuid, p_dialog uuid, p_seq bigint, p_tries int, p_error text, p_next_at_ms bigint,
    p_webhook_next_at_ms bigint, p_give_up boolean, p_pause_if_since_ms bigint
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_paused boolean;
BEGIN
    UPDATE webhooks SET
        failures = failures + 1, failing_since_ms = coalesce(failing_since_ms, p_now_ms), last_error = p_error,
        next_at_ms = p_webhook_next_at_ms, given_up = given_up + p_give_up::int,
        paused_at_ms = CASE WHEN coalesce(failing_since_ms, p_now_ms) <= p_pause_if_since_ms THEN p_now_ms END
    WHERE principal_id = p_principal RETURNING paused_at_ms IS NOT NULL INTO v_paused;
    IF v_paused IS NOT NULL THEN
        INSERT INTO webhook_positions AS w (principal_id, dialog_id, seq, tries, next_at_ms)
        VALUES (p_principal, p_dialog, p_seq - (NOT p_give_up)::int, p_tries, p_next_at_ms)
        ON CONFLICT (principal_id, dialog_id) DO UPDATE SET
            seq = greatest(w.seq, excluded.seq), tries = excluded.tries, next_at_ms = excluded.next_at_ms;
    END IF;
    RETURN coalesce(v_paused, false);
END $$;
