-- Raise the versions of payments above what was told of them, `p_limit` of them in a call: their state as the books have it
-- is announced. One that the books do not know is booked as cancelled; it moves nothing. Returns how many were looked at.
--
-- A payment of which nothing but id and version was told, in a sealed dialog, cannot be booked: it is left out.
CREATE FUNCTION reconcile_payments(p_limit int) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_told record;
    v payments%ROWTYPE;
    v_done uuid[] := '{}';
BEGIN
    IF books_serve() THEN
        RETURN 0;
    END IF;
    PERFORM FROM book_history h WHERE h.only_row FOR NO KEY UPDATE;  -- one after the other
    PERFORM pg_advisory_xact_lock_shared(${PERIOD_LOCKS}, 0);
    FOR v_told IN
        SELECT x.payment_id, l.newest, f.* FROM (
            SELECT DISTINCT t.payment_id FROM told_versions t WHERE t.open ORDER BY t.payment_id LIMIT p_limit) x
        CROSS JOIN LATERAL (SELECT max(t.version) AS newest FROM told_versions t WHERE t.payment_id = x.payment_id) l
        LEFT JOIN LATERAL (
            SELECT t.tenant_id, t.payer_id, t.payee_id, t.currency, t.amount, t.order_id, t.dialog_id FROM told_versions t
            WHERE t.payment_id = x.payment_id AND t.payer_id IS NOT NULL
            ORDER BY t.is_self DESC, t.version DESC LIMIT 1) f ON true
        ORDER BY x.payment_id
    LOOP
        SELECT p.* INTO v FROM payments p WHERE p.payment_id = v_told.payment_id FOR NO KEY UPDATE;
        IF NOT FOUND AND v_told.payer_id IS NOT NULL THEN
            PERFORM book_lost(v_told.payment_id, v_told.newest, v_told.tenant_id, v_told.dialog_id, v_told.order_id,
                              v_told.payer_id, v_told.payee_id, v_told.currency, v_told.amount, date_us(clock_us(), 0));
        ELSIF v.version < v_told.newest THEN
            v.version := v_told.newest + 1;
            v.moved_us := date_us(clock_us(), v.moved_us);
            UPDATE payments p SET version = v.version, moved_us = v.moved_us WHERE p.payment_id = v.payment_id;
            PERFORM note_version(v, ${PaymentStep.RESTORE}::smallint, '${NIL}');
        END IF;
        v_done := v_done || v_told.payment_id;
    END LOOP;
    UPDATE told_versions t SET open = false WHERE t.payment_id = ANY (v_done) AND t.open;
    RETURN cardinality(v_done);
END $$;
