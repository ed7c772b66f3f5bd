-- Open an account, or find it open, as it was opened first: its slots, what is known of a person whose spending is limited,
-- and with a wallet the `receivable` of its owner. (Were that opened with the first debt, a step that waits for the wallet
-- could not lock it.) Slot 0 decides who opens it. A wallet of who is erased is closed from the beginning.
CREATE FUNCTION open_account(
    p_actor uuid, p_tenant smallint, p_owner uuid, p_currency text, p_purpose smallint, p_slots smallint, p_floored boolean,
    p_timezone text, p_day_max bigint, p_month_max bigint
) RETURNS uuid
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_account uuid := account_of(p_tenant, p_owner, p_currency, p_purpose);
    v_status smallint := ${AccountStatus.ACTIVE};
BEGIN
    PERFORM refuse_restored();
    IF p_purpose = ${Purpose.WALLET} THEN
        IF NOT lock_living(p_tenant, p_owner) THEN
            v_status := ${AccountStatus.CLOSED};
        END IF;
    END IF;
    INSERT INTO accounts (account_id, slot, slots, tenant_id, owner_id, currency, purpose, floored, limited, status)
    VALUES (v_account, 0, p_slots, p_tenant, p_owner, p_currency, p_purpose, p_floored, p_timezone IS NOT NULL,
            v_status)
    ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN v_account;
    END IF;
    INSERT INTO accounts (account_id, slot, slots, tenant_id, owner_id, currency, purpose, floored, limited, status)
    SELECT v_account, s, p_slots, p_tenant, p_owner, p_currency, p_purpose, p_floored, p_timezone IS NOT NULL,
           v_status
    FROM generate_series(1, p_slots - 1) s;
    IF p_timezone IS NOT NULL THEN
        INSERT INTO persons (person_id, tenant_id, timezone, day_max, month_max)
        VALUES (p_owner, p_tenant, p_timezone, p_day_max, p_month_max) ON CONFLICT DO NOTHING;
    END IF;
    PERFORM note_audit(p_tenant, 'open_account', p_actor, v_account, concat_ws(' ', p_owner, p_currency, p_purpose));
    IF p_purpose = ${Purpose.WALLET} THEN
        PERFORM open_account(p_actor, p_tenant, p_owner, p_currency, ${Purpose.RECEIVABLE}::smallint, 1::smallint, false,
                             NULL, NULL, NULL);
    END IF;
    RETURN v_account;
END $$;
