-- What is open of a person in a tenant, as a sum of the members of `StillOpen`: who has any cannot be erased. Accounts are locked.
CREATE FUNCTION list_open_money(p_tenant smallint, p_person uuid) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_open int;
BEGIN
    SELECT coalesce(bit_or(x.flag), 0) INTO v_open FROM (
        SELECT CASE WHEN a.balance < 0 THEN ${StillOpen.DEBT} ELSE ${StillOpen.BALANCE} END AS flag
        FROM accounts a WHERE a.owner_id = p_person AND a.tenant_id = p_tenant AND a.slot = 0 AND a.balance <> 0
        UNION ALL
        SELECT ${StillOpen.BALANCE} FROM accounts a JOIN accounts s USING (account_id)
        WHERE a.owner_id = p_person AND a.tenant_id = p_tenant AND a.slot = 0 AND s.slot > 0 AND s.balance <> 0
        UNION ALL
        SELECT ${StillOpen.HOLD} FROM accounts a JOIN holds h USING (account_id)
        WHERE a.owner_id = p_person AND a.tenant_id = p_tenant AND a.slot = 0 AND h.balance > 0
        UNION ALL
        SELECT CASE WHEN p.state = ${PaymentState.DISPUTED} THEN ${StillOpen.DISPUTE} ELSE ${StillOpen.PAYMENT} END
        FROM (SELECT f.state FROM payments f WHERE f.payer_id = p_person AND f.tenant_id = p_tenant
              UNION ALL SELECT t.state FROM payments t WHERE t.payee_id = p_person AND t.tenant_id = p_tenant) p
        WHERE p.state IN (${PaymentState.REQUESTED}, ${PaymentState.HELD}, ${PaymentState.REFUNDING},
                          ${PaymentState.REFUND_FAILED}, ${PaymentState.DISPUTED})
        UNION ALL
        SELECT ${StillOpen.INTENT} FROM intents i
        WHERE i.owner_id = p_person AND i.tenant_id = p_tenant
          AND i.state IN (${IntentState.WRITTEN}, ${IntentState.UNKNOWN}, ${IntentState.PENDING})
        UNION ALL
        SELECT ${StillOpen.ORDER}
        FROM (SELECT c.state FROM orders c WHERE c.customer_id = p_person AND c.tenant_id = p_tenant
              UNION ALL SELECT b.state FROM orders b WHERE b.business_id = p_person AND b.tenant_id = p_tenant) o
        WHERE o.state IN (${OrderState.PENDING}, ${OrderState.CONFIRMED}, ${OrderState.PROCESSING}, ${OrderState.SHIPPED})
        UNION ALL
        SELECT ${StillOpen.LAST_OWNER} FROM staff s
        WHERE s.person_id = p_person AND s.tenant_id = p_tenant AND s.role = ${StaffRole.OWNER}
          AND NOT EXISTS (SELECT FROM staff t WHERE t.business_id = s.business_id AND t.person_id <> p_person
                                                AND t.role = ${StaffRole.OWNER})
    ) x;
    RETURN v_open;
END $$;
