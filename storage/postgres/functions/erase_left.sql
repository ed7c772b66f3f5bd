-- Erase rows of the archive that a purged person wrote with a device, and note how far that came: of the numbers from
-- `p_first_n` on to the place `(p_after_n, p_after_dialog)`; `p_after_n` null: to their end.
--
-- What has been put back into the journal meanwhile is judged there. What is being put back at this moment is blanked by
-- `erase_hanging`. A number that the journal has for somebody else's row, or has not given out, is of a lost history.
CREATE FUNCTION erase_left(
    p_now_ms bigint, p_author uuid, p_device uuid, p_first_n bigint, p_after_n bigint, p_after_dialog uuid,
    p_dialog uuid[], p_seq bigint[]
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    r record;
BEGIN
    FOR r IN
        SELECT k.dialog_id, k.seq, j.device_id FROM unnest(p_dialog, p_seq) AS k(dialog_id, seq)
        JOIN heads h ON h.dialog_id = k.dialog_id AND k.seq <= h.seq
        LEFT JOIN journal j ON j.dialog_id = k.dialog_id AND j.seq = k.seq
        ORDER BY k.dialog_id, k.seq
    LOOP
        IF r.device_id IS NULL THEN
            PERFORM erase_message(r.dialog_id, r.seq, p_now_ms + ${ERASE_HANGING_AFTER_MS});
        ELSIF r.device_id = p_device THEN
            PERFORM erase_content(p_now_ms, r.dialog_id, r.seq);
        END IF;
    END LOOP;
    IF p_after_n IS NULL THEN
        DELETE FROM left_numbers l WHERE l.device_id = p_device AND l.first_n = p_first_n;
    ELSE
        UPDATE purged_authors x SET device_id = p_device, done_n = p_after_n, dialog_id = p_after_dialog
        WHERE x.principal_id = p_author AND NOT x.in_journal;
    END IF;
END $$;
