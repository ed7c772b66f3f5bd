-- The rule for payments to an owner: the newest of their own, else the newest for all; without one nothing is charged.
CREATE FUNCTION fee_rule_of(
    p_tenant smallint, p_owner uuid, p_currency text, OUT basis_points int, OUT fixed bigint
)
LANGUAGE plpgsql STABLE
AS $$
#variable_conflict use_column
BEGIN
    SELECT r.basis_points, r.fixed INTO basis_points, fixed FROM fee_rules r
    WHERE r.tenant_id = p_tenant AND r.owner_id = p_owner AND r.currency = p_currency ORDER BY r.rule_id DESC LIMIT 1;
    IF NOT FOUND THEN
        SELECT r.basis_points, r.fixed INTO basis_points, fixed FROM fee_rules r
        WHERE r.tenant_id = p_tenant AND r.owner_id = '${NIL}' AND r.currency = p_currency ORDER BY r.rule_id DESC LIMIT 1;
    END IF;
    basis_points := coalesce(basis_points, 0);
    fixed := coalesce(fixed, 0);
END $$;
