-- Divide what the payee has just been paid, `p_net` in `p_slot`: by weight, and what is left over by one unit each to those
-- with the largest remainders, the first places first. All accounts of `share_accounts` are locked.
CREATE FUNCTION pay_shares(p payments, p_at_us bigint, p_net bigint, p_slot smallint) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v record;
    v_slot smallint;
BEGIN
    FOR v IN
        WITH part AS (
            SELECT s.place, div(p_net::numeric * s.weight, w.total) AS whole, mod(p_net::numeric * s.weight, w.total) AS rest
            FROM payment_shares s, (SELECT sum(x.weight) AS total FROM payment_shares x WHERE x.payment_id = p.payment_id) w
            WHERE s.payment_id = p.payment_id
        ), ranked AS (
            SELECT r.place, r.whole, row_number() OVER (ORDER BY r.rest DESC, r.place) AS rank,
                   p_net - sum(r.whole) OVER () AS left_over FROM part r
        ), paid AS (
            UPDATE payment_shares s SET paid = (r.whole + CASE WHEN r.rank <= r.left_over THEN 1 ELSE 0 END)::bigint
            FROM ranked r WHERE s.payment_id = p.payment_id AND s.place = r.place
            RETURNING s.place, s.account_id, s.slots, s.paid
        )
        SELECT x.account_id, x.slots, x.paid FROM paid x WHERE x.account_id <> p.to_id AND x.paid > 0 ORDER BY x.place
    LOOP
        v_slot := pg_backend_pid() % v.slots;
        PERFORM post(p_at_us, p.currency, ${TransferReason.SHARE}::smallint, p.payment_id, NULL,
                     p.to_id, p_slot, v.account_id, v_slot, v.paid);
        IF (SELECT a.in_debt FROM accounts a WHERE a.account_id = v.account_id AND a.slot = 0) THEN
            PERFORM settle_debt(p_at_us, p.currency, p.payment_id, v.account_id, v_slot);
        END IF;
    END LOOP;
END $$;
