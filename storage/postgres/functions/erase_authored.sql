-- One step of erasing what the person wrote whose purge is due first: look at about `p_limit` rows of the journal, or
-- dialogs. `author` null: nobody is due. `device` not null: the journal is done, and of this device the archive has rows
-- among the numbers from `first_n` on, after the place `(after_n, after_dialog)` (`erase_left.sql`).
--
-- It goes by the index of what a device wrote in a dialog: what others wrote is not read. No head is locked: the person
-- writes nothing any more.
CREATE FUNCTION erase_authored(
    p_now_ms bigint, p_limit int, OUT rows int, OUT author uuid,
    OUT device uuid, OUT first_n bigint, OUT after_n bigint, OUT after_dialog uuid
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    t purged_authors%ROWTYPE;
    r record;
    v_dialog uuid;
    v_device uuid;
    v_left int := p_limit;
    v_ended boolean := false;
BEGIN
    rows := 0;
    SELECT * INTO t FROM purged_authors x WHERE x.due_ms <= p_now_ms ORDER BY x.due_ms LIMIT 1 FOR UPDATE;
    author := t.principal_id;
    IF author IS NULL THEN
        RETURN;
    ELSIF NOT t.in_journal THEN
        SELECT l.device_id, l.first_n INTO device, first_n
        FROM devices d JOIN left_numbers l ON l.device_id = d.device_id
        WHERE d.principal_id = author ORDER BY d.device_id, l.first_n LIMIT 1;
        IF device = t.device_id AND t.done_n BETWEEN first_n AND first_n + ${NUMBERS_TOGETHER} - 1 THEN
            after_n := t.done_n;
            after_dialog := t.dialog_id;
        ELSIF device IS NULL THEN
            DELETE FROM purged_authors x WHERE x.principal_id = author;
        END IF;
        RETURN;
    END IF;
    <<walk>>
    BEGIN
        FOR v_dialog IN
            SELECT m.dialog_id FROM members m WHERE m.principal_id = author AND m.dialog_id >= t.dialog_id
            ORDER BY m.dialog_id LIMIT p_limit + 1
        LOOP
            FOR v_device IN
                SELECT d.device_id FROM devices d
                WHERE d.principal_id = author AND (v_dialog > t.dialog_id OR d.device_id >= t.device_id)
                ORDER BY d.device_id LIMIT p_limit + 1
            LOOP
                IF (v_dialog, v_device) <> (t.dialog_id, t.device_id) THEN
                    t.dialog_id := v_dialog;
                    t.device_id := v_device;
                    t.done_n := 0;
                END IF;
                EXIT walk WHEN v_left <= 0;
                FOR r IN
                    SELECT j.seq, j.n FROM journal j
                    WHERE j.dialog_id = v_dialog AND j.device_id = v_device AND j.n > t.done_n
                    ORDER BY j.n LIMIT v_left
                LOOP
                    PERFORM erase_content(p_now_ms, v_dialog, r.seq);
                    t.done_n := r.n;
                    v_left := v_left - 1;
                END LOOP;
                EXIT walk WHEN v_left <= 0;
                v_left := v_left - 1;
            END LOOP;
        END LOOP;
        v_ended := true;
    END walk;
    rows := p_limit - v_left;
    -- After the journal it is the turn of the others.
    UPDATE purged_authors x
    SET in_journal = NOT v_ended, due_ms = CASE WHEN v_ended THEN p_now_ms ELSE x.due_ms END,
        dialog_id = t.dialog_id, device_id = t.device_id, done_n = CASE WHEN v_ended THEN 0 ELSE t.done_n END
    WHERE x.principal_id = author;
END $$;
