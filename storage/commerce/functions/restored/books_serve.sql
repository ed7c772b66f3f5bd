-- Whether the books serve: they go on in the history that they had, or an operator has accepted them as they are. For a
-- connection that reconciles them with gateways they serve as soon as they are reconciled with what was told.
--
-- In a PostgreSQL process that they were not looked at in, the histories are compared first. Another one is noted with the
-- time of the newest thing that the books know; then they are read-only. A call that raises afterwards takes the note back,
-- and the next call makes it again.
CREATE FUNCTION books_serve() RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_table oid;
    h book_history%ROWTYPE;
    v_now record;
BEGIN
    SELECT x.* INTO h FROM book_history x WHERE x.only_row;
    v_table := (SELECT x.tableoid FROM book_history x WHERE x.only_row);
    IF h.started_at = pg_postmaster_start_time() AND h.table_oid = v_table THEN
        RETURN h.noticed_us IS NULL
            OR (h.told_us IS NOT NULL AND current_setting('${RECONCILING_SETTING}', true) IS NOT DISTINCT FROM 'on');
    END IF;
    SELECT x.* INTO h FROM book_history x WHERE x.only_row FOR NO KEY UPDATE;
    IF h.started_at = pg_postmaster_start_time() AND h.table_oid = v_table THEN
        RETURN h.noticed_us IS NULL;
    END IF;
    SELECT x.* INTO v_now FROM (${HISTORY}) x;
    IF h.system_identifier IS NOT NULL AND (
        h.system_identifier <> v_now.system_now OR h.table_oid <> v_table
        OR (h.timeline_id IS DISTINCT FROM v_now.timeline_now AND NOT h.synchronous)) THEN
        h.noticed_us := clock_us();
        h.told_us := NULL;
        h.known_us := greatest(
            (SELECT t.at_us FROM transfers t ORDER BY t.transfer_no DESC LIMIT 1),
            (SELECT max(k.at_us) FROM keys k WHERE k.subject IS NOT NULL),
            (SELECT a.at_us FROM audit a ORDER BY a.audit_id DESC LIMIT 1));
    END IF;
    UPDATE book_history x
    SET system_identifier = v_now.system_now, timeline_id = v_now.timeline_now, started_at = pg_postmaster_start_time(),
        table_oid = v_table, noticed_us = h.noticed_us, known_us = h.known_us,
        told_us = h.told_us
    WHERE x.only_row;
    RETURN h.noticed_us IS NULL;
END $$;
