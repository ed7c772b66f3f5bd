-- The fee of an amount: never more than the amount, half a unit rounded up. Computed in parts, so that nothing overflows.
CREATE FUNCTION fee_of(p_amount bigint, p_basis_points int, p_fixed bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE
AS $$
    SELECT least(p_amount, p_fixed + (p_amount / 10000) * p_basis_points
                           + ((p_amount % 10000) * p_basis_points + 5000) / 10000)
$$;
