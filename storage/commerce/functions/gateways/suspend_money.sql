-- Money that fits nothing: between clearing and the suspense account of the gateway, as an item that a person looks into.
CREATE FUNCTION suspend_money(
    p_tenant smallint, p_gateway text, p_object text, p_effect smallint, p_change bigint, p_currency text, p_intent uuid,
    p_clearing uuid
) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_suspense uuid := account_of(p_tenant, gateway_owner(p_gateway), p_currency, ${Purpose.SUSPENSE}::smallint);
    v_from int := CASE WHEN p_change > 0 THEN 1 ELSE 2 END;
    v_ids uuid[] := ARRAY[p_clearing, v_suspense];
    v_locked record;
    v_id bigint;
BEGIN
    v_locked := lock_accounts(v_ids, ARRAY[false, false]);
    INSERT INTO suspense (tenant_id, gateway, object_id, effect, intent_id, currency, amount, at_us)
    VALUES (p_tenant, p_gateway, p_object, p_effect, p_intent, p_currency, p_change, v_locked.at_us)
    RETURNING suspense_id INTO v_id;
    PERFORM post(v_locked.at_us, p_currency, ${TransferReason.SUSPENDED}::smallint, suspense_subject(v_id), NULL,
                 v_ids[v_from], v_locked.slot[v_from], v_ids[3 - v_from], v_locked.slot[3 - v_from], abs(p_change));
    RETURN v_locked.at_us;
END $$;
