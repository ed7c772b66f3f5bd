-- Whether a tenant has anything of a person.
CREATE FUNCTION is_known(p_tenant smallint, p_person uuid) RETURNS boolean
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    RETURN EXISTS (SELECT FROM accounts a WHERE a.owner_id = p_person AND a.slot = 0 AND a.tenant_id = p_tenant)
        OR EXISTS (SELECT FROM personal_keys k
                   WHERE k.tenant_id = p_tenant AND k.person_id = p_person AND k.erased_us IS NULL)
        OR EXISTS (SELECT FROM staff s WHERE s.person_id = p_person AND s.tenant_id = p_tenant)
        OR EXISTS (SELECT FROM carts c JOIN businesses b USING (business_id)
                   WHERE c.person_id = p_person AND b.tenant_id = p_tenant);
END $$;
