-- The tax on an amount: its basis points, halves upward. It is added to the amount.
CREATE FUNCTION tax_of(p_amount numeric, p_basis_points int) RETURNS numeric
LANGUAGE sql IMMUTABLE
AS $$ SELECT div(p_amount * p_basis_points + 5000, 10000) $$;
