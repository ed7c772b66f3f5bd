-- Lock slots in one order for all steps, each from `p_low` to `p_high` of its account; null ids are left out.
--
-- `now_us` is the clock after the last lock: what is due is judged by it. `at_us` dates the transfers: it is never before what
-- was moved there, nor in a closed period, so after a clock that jumped it may be far ahead of `now_us`.
-- Subqueries fix the plan: a lookup for each id, in the order of ids. A join would let the planner read a whole index.
CREATE FUNCTION lock_slots(
    p_ids uuid[], p_low smallint[], p_high smallint[], OUT at_us bigint, OUT active boolean, OUT in_debt uuid[],
    OUT now_us bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_from_us bigint;
BEGIN
    SELECT greatest(max(x.moved_us), (SELECT max(p.ends_us) FROM periods p)),
           bool_and(x.status = ${AccountStatus.ACTIVE}), array_agg(x.account_id) FILTER (WHERE x.in_debt)
    INTO v_from_us, active, in_debt
    FROM (SELECT * FROM unnest(p_ids, p_low, p_high) AS w(account_id, low, high) ORDER BY w.account_id) u
    CROSS JOIN LATERAL (
        SELECT a.account_id, a.moved_us, a.status, a.in_debt FROM accounts a
        WHERE a.account_id = u.account_id AND a.slot BETWEEN u.low AND u.high ORDER BY a.slot FOR NO KEY UPDATE
    ) x;
    now_us := clock_us();
    at_us := greatest(now_us, v_from_us);
END $$;
