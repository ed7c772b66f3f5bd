-- One step of erasing what is due by now: about `p_limit` rows of each sort. `more`: something is left, call again.
-- `lacks_...`: numbers of a dialog that must be put back before they can be judged.
-- `oldest_due_ms` is since when the oldest of it is due, if anything is. While another call runs, it does nothing.
CREATE FUNCTION erase_due(
    p_now_ms bigint, p_limit int, OUT rows int, OUT more boolean, OUT oldest_due_ms bigint,
    OUT lacks_dialog uuid, OUT lacks_first bigint, OUT lacks_last bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_expired int;
    v_retained int;
    v_hanging int;
    v_forgotten int;
BEGIN
    rows := 0;
    more := false;
    IF NOT pg_try_advisory_xact_lock(${ERASER_LOCK_KEY}) THEN
        RETURN;
    END IF;
    v_expired := erase_expired(p_now_ms, p_limit);
    SELECT e.rows, e.lacks_dialog, e.lacks_first, e.lacks_last INTO v_retained, lacks_dialog, lacks_first, lacks_last
    FROM erase_retained(p_now_ms, p_limit) e;
    v_hanging := erase_hanging(p_now_ms, p_limit);
    v_forgotten := forget_reports(p_now_ms, p_limit);
    rows := v_expired + v_retained + v_hanging + v_forgotten;
    more := greatest(v_expired, v_retained, v_hanging, v_forgotten) >= p_limit OR lacks_dialog IS NOT NULL;
    SELECT min(x.due_ms) INTO oldest_due_ms FROM (
        (SELECT j.expires_at_ms AS due_ms FROM journal j
         WHERE j.tag = ${tag.Posted} AND j.expires_at_ms <= p_now_ms ORDER BY j.expires_at_ms LIMIT 1)
        UNION ALL (SELECT t.due_ms FROM retention t WHERE t.due_ms <= p_now_ms ORDER BY t.due_ms LIMIT 1)
        UNION ALL (SELECT e.due_ms FROM erasures e WHERE e.due_ms <= p_now_ms ORDER BY e.due_ms LIMIT 1)) x;
END $$;
