-- Lock what an erasure closes or deletes of a person in a tenant, who is locked: carts, businesses of theirs, then accounts.
CREATE FUNCTION lock_belongings(p_tenant smallint, p_person uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM FROM carts c JOIN businesses b USING (business_id)
    WHERE c.person_id = p_person AND b.tenant_id = p_tenant ORDER BY c.business_id FOR UPDATE OF c;
    PERFORM FROM staff s JOIN businesses b USING (business_id)
    WHERE s.person_id = p_person AND s.tenant_id = p_tenant ORDER BY s.business_id FOR NO KEY UPDATE OF b;
    PERFORM FROM (SELECT a.account_id FROM accounts a
                  WHERE a.owner_id = p_person AND a.slot = 0 AND a.tenant_id = p_tenant ORDER BY a.account_id) w
    CROSS JOIN LATERAL (SELECT FROM accounts s WHERE s.account_id = w.account_id ORDER BY s.slot FOR NO KEY UPDATE) l;
END $$;
