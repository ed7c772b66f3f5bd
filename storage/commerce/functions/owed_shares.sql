-- What each share gives back when `p_net` of what the payee was paid has been refunded in all: in proportion, by the sum of
-- all refunds. Fractions stay with them, so the payee gives up to one unit more for each until all is refunded.
CREATE FUNCTION owed_shares(p payments, p_net bigint) RETURNS TABLE (place smallint, account_id uuid, slots smallint, part bigint)
LANGUAGE sql STABLE
AS $$
    SELECT s.place, s.account_id, s.slots, div(s.paid::numeric * p_net, p.captured - p.fee)::bigint - s.returned
    FROM payment_shares s
    WHERE p.shared AND p.captured > p.fee AND s.payment_id = p.payment_id AND s.account_id <> p.to_id
    ORDER BY s.place
$$;
