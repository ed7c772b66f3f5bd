-- The reference currency of limits counts as itself.
CREATE FUNCTION ensure_reference(p_tenant smallint, p_currency text) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM refuse_restored();
    INSERT INTO reference_rates (tenant_id, currency, rate) VALUES (p_tenant, p_currency, 1) ON CONFLICT DO NOTHING;
END $$;
