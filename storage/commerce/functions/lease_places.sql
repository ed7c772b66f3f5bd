-- Lease places that are due, and number what waits there, unless something is numbered already: that comes first, again.
--
-- Returns what is to be posted, at most `p_rows` for each place, in the order of the numbers: the version as it was. `asked`:
-- its payee began it; the payment of an order is a request that its payer began.
CREATE FUNCTION lease_places(p_tenant smallint, p_places int, p_rows int, p_lease_us bigint)
RETURNS TABLE (
    place_no bigint, lease bigint, is_self boolean, subject_id uuid, sealed boolean, failures int,
    n bigint, version int, admitted boolean, asked boolean, payment_id uuid, dialog_id uuid, order_id uuid,
    payer_id uuid, payee_id uuid, currency text, amount bigint, state smallint, expires_us bigint,
    captured bigint, fee bigint, refunded bigint, restored boolean
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_now_us bigint := clock_us();
    v_leased bigint[];
BEGIN
    IF NOT books_serve() THEN
        RETURN;
    END IF;
    WITH due AS MATERIALIZED (
        SELECT d.place_no FROM places d WHERE d.tenant_id = p_tenant AND d.due_us <= v_now_us
        ORDER BY d.due_us LIMIT p_places FOR NO KEY UPDATE SKIP LOCKED
    ), leased AS (
        UPDATE places p SET lease = p.lease + 1, due_us = v_now_us + p_lease_us
        FROM due WHERE p.place_no = due.place_no
        RETURNING p.place_no
    )
    SELECT array_agg(l.place_no) INTO v_leased FROM leased l;
    IF v_leased IS NULL THEN
        RETURN;
    END IF;
    WITH waiting AS MATERIALIZED (
        SELECT p.place_no, w.payment_id, p.last_n + row_number() OVER (PARTITION BY p.place_no ORDER BY w.since_us) AS n
        FROM places p CROSS JOIN LATERAL (
            SELECT a.payment_id, a.since_us FROM announcements a
            WHERE a.place_no = p.place_no AND a.version > a.done AND a.refused IS NULL
            ORDER BY a.since_us LIMIT p_rows) w
        WHERE p.place_no = ANY (v_leased)
          AND NOT EXISTS (SELECT 1 FROM announcements b WHERE b.place_no = p.place_no AND b.n IS NOT NULL)
    ), numbered AS (
        UPDATE announcements a
        SET n = w.n, sent = a.version, expires_us = CASE WHEN y.version = a.version THEN y.expires_us END
        FROM waiting w, payments y
        WHERE a.place_no = w.place_no AND a.payment_id = w.payment_id AND y.payment_id = w.payment_id
    )
    UPDATE places p SET last_n = x.n
    FROM (SELECT w.place_no, max(w.n) AS n FROM waiting w GROUP BY w.place_no) x WHERE p.place_no = x.place_no;
    UPDATE places p SET due_us = NULL
    WHERE p.place_no = ANY (v_leased)
      AND NOT EXISTS (SELECT 1 FROM announcements a WHERE a.place_no = p.place_no AND a.n IS NOT NULL);
    RETURN QUERY
    SELECT p.place_no, p.lease, p.is_self, p.subject_id, p.sealed, p.failures, a.n, a.sent, a.admitted,
           coalesce(f.step = ${PaymentStep.REQUEST} AND f.actor_id <> y.payer_id, false), y.payment_id, y.dialog_id, y.order_id,
           y.payer_id, y.payee_id, y.currency, y.amount, v.state, a.expires_us, v.captured, v.fee, v.refunded,
           v.step = ${PaymentStep.RESTORE}
    FROM places p
    JOIN announcements a ON a.place_no = p.place_no AND a.n IS NOT NULL
    JOIN payments y ON y.payment_id = a.payment_id
    JOIN payment_versions v ON v.payment_id = a.payment_id AND v.version = a.sent
    LEFT JOIN payment_versions f ON f.payment_id = a.payment_id AND f.version = 1
    WHERE p.place_no = ANY (v_leased)
    ORDER BY p.place_no, a.n;
END $$;
