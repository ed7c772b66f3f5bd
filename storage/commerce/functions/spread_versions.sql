-- Take versions from the outbox to the places where they are announced: the payment's dialog, and the `self` dialogs of both
-- parties. Disputes are for the parties alone. Returns how many rows of the outbox it took.
--
-- Numbers of the outbox become visible in another order than they were given. It does not matter: what is taken is
-- deleted, and a place keeps the newest version.
CREATE FUNCTION spread_versions(p_limit int) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_now_us bigint := clock_us();
    v_payment uuid[];
    v_version int[];
BEGIN
    IF NOT books_serve() THEN
        RETURN 0;
    END IF;
    WITH first AS MATERIALIZED (
        SELECT x.outbox_no FROM outbox x ORDER BY x.outbox_no LIMIT p_limit FOR UPDATE SKIP LOCKED
    ), taken AS (
        DELETE FROM outbox o USING first f WHERE o.outbox_no = f.outbox_no
        RETURNING o.payment_id, o.version
    )
    SELECT array_agg(t.payment_id), array_agg(t.version) INTO v_payment, v_version FROM taken t;
    IF v_payment IS NULL THEN
        RETURN 0;
    END IF;
    INSERT INTO places (tenant_id, is_self, subject_id)
    SELECT DISTINCT w.tenant_id, w.is_self, w.subject_id FROM places_of(v_payment, v_version) w
    WHERE NOT EXISTS (SELECT 1 FROM places p WHERE p.tenant_id = w.tenant_id AND p.subject_id = w.subject_id
                      AND p.is_self = w.is_self)
    ORDER BY 1, 2, 3
    ON CONFLICT DO NOTHING;
    -- Places are locked in a statement of its own, before anything of them is read: what their holders did is seen then.
    PERFORM FROM places p
    WHERE p.place_no = ANY (ARRAY(
        SELECT x.place_no FROM places_of(v_payment, v_version) w
        JOIN places x ON x.tenant_id = w.tenant_id AND x.subject_id = w.subject_id AND x.is_self = w.is_self))
    ORDER BY p.place_no FOR NO KEY UPDATE;
    WITH spread AS (
        INSERT INTO announcements AS a (place_no, payment_id, version, since_us, admitted)
        SELECT p.place_no, w.payment_id, max(w.version), v_now_us, p.is_self
        FROM places_of(v_payment, v_version) w
        JOIN places p ON p.tenant_id = w.tenant_id AND p.subject_id = w.subject_id AND p.is_self = w.is_self
        GROUP BY p.place_no, w.payment_id
        ON CONFLICT (place_no, payment_id) DO UPDATE SET
            version = excluded.version,
            since_us = CASE WHEN a.version > a.done AND a.refused IS NULL THEN a.since_us ELSE excluded.since_us END,
            refused = CASE WHEN a.admitted THEN NULL ELSE a.refused END
        WHERE excluded.version > a.version
        RETURNING a.place_no
    )
    UPDATE places p SET due_us = v_now_us FROM (SELECT DISTINCT s.place_no FROM spread s) t
    WHERE p.place_no = t.place_no AND p.due_us IS NULL;
    RETURN cardinality(v_payment);
END $$;
