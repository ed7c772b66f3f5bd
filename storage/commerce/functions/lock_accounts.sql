-- Lock the slots that a step moves, in one order for all steps: of each account the one that this connection has, or
-- `p_whole` of it, as for a debit that may not pass zero. Null ids are left out.
--
-- `at_us` is the time of the transfers: the clock after the last lock, never before what was moved there, nor in a closed
-- period. `slot` is that of each account; null where there is none.
CREATE FUNCTION lock_accounts(
    p_ids uuid[], p_whole boolean[], OUT at_us bigint, OUT slot smallint[], OUT active boolean, OUT in_debt uuid[]
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_slots smallint[];
    v_moved_us bigint;
BEGIN
    SELECT array_agg(a.slots ORDER BY u.ord), array_agg((pg_backend_pid() % a.slots)::smallint ORDER BY u.ord)
    INTO v_slots, slot
    FROM unnest(p_ids) WITH ORDINALITY AS u(account_id, ord)
    LEFT JOIN accounts a ON a.account_id = u.account_id AND a.slot = 0;
    SELECT max(x.moved_us), bool_and(x.status = ${AccountStatus.ACTIVE}),
           array_agg(DISTINCT x.account_id) FILTER (WHERE x.in_debt)
    INTO v_moved_us, active, in_debt FROM (
        SELECT a.account_id, a.moved_us, a.status, a.in_debt
        FROM unnest(p_ids, p_whole, v_slots, slot) AS u(account_id, whole, slots, slot)
        JOIN accounts a ON a.account_id = u.account_id
            AND a.slot BETWEEN CASE WHEN u.whole THEN 0 ELSE u.slot END AND CASE WHEN u.whole THEN u.slots - 1 ELSE u.slot END
        ORDER BY a.account_id, a.slot FOR NO KEY UPDATE OF a) x;
    at_us := greatest(clock_us(), v_moved_us, (SELECT max(p.ends_us) FROM periods p));
END $$;
