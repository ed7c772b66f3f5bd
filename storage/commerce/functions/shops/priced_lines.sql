-- The lines of a cart with what they cost now, in the order of variants. A line that cannot be ordered is not `active`.
CREATE FUNCTION priced_lines(p_person uuid, p_business uuid) RETURNS SETOF priced_line
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN QUERY
    SELECT (row_number() OVER (ORDER BY l.variant_id))::int, p.product_id, l.variant_id, v.sku, p.name, v.name, p.currency,
           l.quantity, v.price, p.tax_basis_points, v.price * l.quantity::numeric,
           tax_of(v.price * l.quantity::numeric, p.tax_basis_points), v.tracked, p.ships,
           v.status = ${ShopStatus.ACTIVE} AND p.status = ${ShopStatus.ACTIVE}, s.available
    FROM cart_lines l
    CROSS JOIN LATERAL (SELECT x.* FROM variants x WHERE x.variant_id = l.variant_id LIMIT 1) v
    CROSS JOIN LATERAL (SELECT x.* FROM products x WHERE x.product_id = v.product_id LIMIT 1) p
    CROSS JOIN LATERAL (SELECT x.available FROM stock x WHERE x.variant_id = l.variant_id LIMIT 1) s
    WHERE l.person_id = p_person AND l.business_id = p_business
    ORDER BY l.variant_id;
END $$;
