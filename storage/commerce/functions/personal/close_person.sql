-- What an erasure does in a tenant: wallets with nothing in them are closed, profile, carts and roles go, the time of what the
-- law wants kept begins. Who had no profile key gets an erased one: so the key store hears of every erasure. The person and
-- their accounts are locked.
CREATE FUNCTION close_person(p_tenant smallint, p_person uuid, p_erasure uuid, p_now_us bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    UPDATE accounts a SET status = ${AccountStatus.CLOSED} FROM accounts w
    WHERE w.owner_id = p_person AND w.slot = 0 AND w.tenant_id = p_tenant AND a.account_id = w.account_id
      AND NOT EXISTS (SELECT FROM accounts s WHERE s.account_id = w.account_id AND s.balance <> 0)
      AND NOT EXISTS (SELECT FROM holds h WHERE h.account_id = w.account_id AND h.balance > 0);
    PERFORM erase_personal_key(k.key_id) FROM personal_keys k
    WHERE k.tenant_id = p_tenant AND k.person_id = p_person AND k.key_kind = ${KeyKind.PROFILE} AND k.erased_us IS NULL;
    IF NOT FOUND THEN
        INSERT INTO personal_keys (key_id, tenant_id, person_id, key_kind, erased_us)
        VALUES (gen_random_uuid(), p_tenant, p_person, ${KeyKind.PROFILE}, p_now_us);
    END IF;
    DELETE FROM cart_lines l USING businesses b
    WHERE l.person_id = p_person AND b.business_id = l.business_id AND b.tenant_id = p_tenant;
    DELETE FROM carts c USING businesses b
    WHERE c.person_id = p_person AND b.business_id = c.business_id AND b.tenant_id = p_tenant;
    DELETE FROM staff s WHERE s.person_id = p_person AND s.tenant_id = p_tenant;
    UPDATE personal_items i SET keep_until = p_now_us + i.keep_us
    WHERE i.tenant_id = p_tenant AND i.person_id = p_person AND i.keep_until IS NULL AND i.keep_us IS NOT NULL;
    INSERT INTO personal_erasures (erasure_id, tenant_id, person_id, at_us)
    VALUES (p_erasure, p_tenant, p_person, p_now_us);
END $$;
