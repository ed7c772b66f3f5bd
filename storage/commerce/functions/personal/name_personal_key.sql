-- The key of a person: the one that they have, else `p_new`, which is durable in the key store. Null: the person is erased.
CREATE FUNCTION name_personal_key(p_tenant smallint, p_person uuid, p_key_kind smallint, p_new uuid) RETURNS uuid
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_key uuid;
    v_living boolean;
BEGIN
    PERFORM refuse_restored();
    v_living := lock_living(p_tenant, p_person);
    SELECT k.key_id INTO v_key FROM personal_keys k
    WHERE k.tenant_id = p_tenant AND k.person_id = p_person AND k.key_kind = p_key_kind AND k.erased_us IS NULL;
    IF v_key IS NULL AND v_living THEN
        INSERT INTO personal_keys (key_id, tenant_id, person_id, key_kind) VALUES (p_new, p_tenant, p_person, p_key_kind)
        RETURNING key_id INTO v_key;
    END IF;
    RETURN v_key;
END $$;
