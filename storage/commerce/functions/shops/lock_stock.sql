-- Lock the stock of variants in one order for all steps; null ids are left out.
CREATE FUNCTION lock_stock(p_variants uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM FROM (SELECT u.id FROM unnest(p_variants) u(id) ORDER BY u.id) w
    CROSS JOIN LATERAL (SELECT FROM stock s WHERE s.variant_id = w.id FOR NO KEY UPDATE) x;
END $$;
