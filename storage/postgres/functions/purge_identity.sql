-- Erase some of what has reached its age: at most `p_limit` rows of each sort, so that no call is long. Returns how
-- many people were erased; `more`: something is left, call again.
CREATE FUNCTION purge_identity(
    p_now_ms bigint, p_deleted_before_ms bigint, p_ended_before_ms bigint, p_audit_before_ms bigint, p_limit int,
    OUT people int, OUT more boolean
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_who record;
    v_left int := p_limit;
    v_rows int;
    v_ended uuid[];
BEGIN
    people := 0;
    FOR v_who IN
        SELECT p.principal_id, EXISTS (SELECT 1 FROM people x WHERE x.principal_id = p.principal_id) AS known
        FROM principals p
        WHERE p.status = ${PrincipalStatus.DELETED} AND NOT p.purged AND p.deleted_at_ms <= p_deleted_before_ms
        ORDER BY p.deleted_at_ms LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        people := people + v_who.known::int;
        v_left := v_left - purge_person(p_now_ms, v_who.principal_id, v_left) - 1;
        EXIT WHEN v_left <= 0;
    END LOOP;
    more := v_left <= 0;
    -- Nothing is waited for: who signs in or refreshes holds the same rows in another order. The next call takes them.
    DELETE FROM codes WHERE ctid = ANY (ARRAY(
        SELECT c.ctid FROM codes c WHERE c.expires_at_ms <= p_now_ms ORDER BY c.expires_at_ms LIMIT p_limit
        FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    more := more OR v_rows >= p_limit;
    DELETE FROM refresh_tokens WHERE ctid = ANY (ARRAY(
        SELECT t.ctid FROM refresh_tokens t WHERE t.used_at_ms <= p_ended_before_ms ORDER BY t.used_at_ms LIMIT p_limit
        FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    more := more OR v_rows >= p_limit;
    IF v_rows < p_limit THEN
        -- Its used tokens are gone by now, so a sign-in has at most its newest one. Tokens go before sign-ins, as when
        -- one is refreshed: a cascade would take them the other way round.
        v_ended := ARRAY(
            SELECT s.sign_in_id FROM sign_ins s JOIN principals p ON p.principal_id = s.principal_id
            WHERE least(s.revoked_at_ms, s.expires_at_ms) <= p_ended_before_ms
            ORDER BY least(s.revoked_at_ms, s.expires_at_ms) LIMIT p_limit FOR NO KEY UPDATE OF p SKIP LOCKED);
        DELETE FROM refresh_tokens WHERE sign_in_id = ANY (v_ended);
        DELETE FROM sign_ins
        WHERE sign_in_id = ANY (v_ended) AND least(revoked_at_ms, expires_at_ms) <= p_ended_before_ms;
        GET DIAGNOSTICS v_rows = ROW_COUNT;
        more := more OR v_rows >= p_limit;
    END IF;
    DELETE FROM audit WHERE ctid = ANY (ARRAY(
        SELECT a.ctid FROM audit a WHERE a.at_ms < p_audit_before_ms AND a.action LIKE 'sign_in.%'
        ORDER BY a.at_ms LIMIT p_limit));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    more := more OR v_rows >= p_limit;
    DELETE FROM ended_access WHERE ctid = ANY (ARRAY(
        SELECT e.ctid FROM ended_access e WHERE e.at_ms < p_now_ms - ${ENDED_ACCESS_KEPT_MS}
        ORDER BY e.at_ms LIMIT p_limit));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    more := more OR v_rows >= p_limit;
    DELETE FROM device_messages WHERE ctid = ANY (ARRAY(
        SELECT w.ctid FROM device_messages w WHERE w.at_ms <= p_now_ms - ${DEVICE_MESSAGES_KEPT_DAYS} * ${DAY_MS}::bigint
        ORDER BY w.at_ms LIMIT p_limit FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    more := more OR v_rows >= p_limit;
    DELETE FROM payment_calls WHERE ctid = ANY (ARRAY(
        SELECT c.ctid FROM payment_calls c WHERE c.at_ms <= p_now_ms - ${PAYMENT_CALLS_KEPT_MS}
        ORDER BY c.at_ms LIMIT p_limit));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    more := more OR v_rows >= p_limit;
    more := sweep_shares(p_now_ms, p_limit) OR more;
    DELETE FROM handed_sessions WHERE ctid = ANY (ARRAY(
        SELECT x.ctid FROM handed_sessions x
        WHERE x.left_at_ms <= p_now_ms - ${SLICES_KEPT_DAYS} * ${DAY_MS}::bigint ORDER BY x.left_at_ms LIMIT p_limit));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    more := more OR v_rows >= p_limit;
END $$;
