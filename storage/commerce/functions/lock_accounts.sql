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
    v_slots := ARRAY(SELECT (SELECT a.slots FROM accounts a WHERE a.account_id = u.account_id AND a.slot = 0)
                     FROM unnest(p_ids) WITH ORDINALITY AS u(account_id, ord) ORDER BY u.ord);
    slot := ARRAY(SELECT (pg_backend_pid() % s)::smallint FROM unnest(v_slots) WITH ORDINALITY AS u(s, ord) ORDER BY u.ord);
    -- Subqueries fix the plans: a lookup for each id, in the order of ids. A join would let the planner read a whole index.
    SELECT max(x.moved_us), bool_and(x.status = ${AccountStatus.ACTIVE}),
           array_agg(x.account_id) FILTER (WHERE x.in_debt)
    INTO v_moved_us, active, in_debt
    FROM (
        SELECT w.account_id, CASE WHEN w.whole THEN 0::smallint ELSE w.slot END AS low,
               CASE WHEN w.whole THEN w.slots - 1::smallint ELSE w.slot END AS high
        FROM unnest(p_ids, p_whole, v_slots, slot) AS w(account_id, whole, slots, slot) ORDER BY w.account_id
    ) u CROSS JOIN LATERAL (
        SELECT a.account_id, a.moved_us, a.status, a.in_debt FROM accounts a
        WHERE a.account_id = u.account_id AND a.slot BETWEEN u.low AND u.high ORDER BY a.slot FOR NO KEY UPDATE
    ) x;
    at_us := greatest(clock_us(), v_moved_us, (SELECT max(p.ends_us) FROM periods p));
END $$;
