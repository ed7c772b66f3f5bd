-- Lock what a step moves: of each account the slot that this connection has, or `p_whole` of it, as for a debit that may
-- not pass zero. `slot` is that of each account; null where there is none. The rest as `lock_slots`.
CREATE FUNCTION lock_accounts(
    p_ids uuid[], p_whole boolean[], OUT at_us bigint, OUT slot smallint[], OUT active boolean, OUT in_debt uuid[],
    OUT now_us bigint
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_low smallint[];
    v_high smallint[];
BEGIN
    SELECT array_agg((pg_backend_pid() % u.slots)::smallint ORDER BY u.ord),
           array_agg((CASE WHEN u.whole THEN 0 ELSE pg_backend_pid() % u.slots END)::smallint ORDER BY u.ord),
           array_agg((CASE WHEN u.whole THEN u.slots - 1 ELSE pg_backend_pid() % u.slots END)::smallint ORDER BY u.ord)
    INTO slot, v_low, v_high
    FROM (SELECT w.ord, w.whole, (SELECT a.slots FROM accounts a WHERE a.account_id = w.account_id AND a.slot = 0) AS slots
          FROM unnest(p_ids, p_whole) WITH ORDINALITY AS w(account_id, whole, ord) OFFSET 0) u;
    SELECT l.at_us, l.active, l.in_debt, l.now_us INTO at_us, active, in_debt, now_us FROM lock_slots(p_ids, v_low, v_high) l;
END $$;
