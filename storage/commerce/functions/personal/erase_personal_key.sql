-- Delete what is sealed under a key, and have the key erased. The person is locked.
CREATE FUNCTION erase_personal_key(p_key_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_key personal_keys%ROWTYPE;
BEGIN
    SELECT k.* INTO v_key FROM personal_keys k WHERE k.key_id = p_key_id;
    DELETE FROM personal_items i
    WHERE i.tenant_id = v_key.tenant_id AND i.person_id = v_key.person_id AND i.key_id = p_key_id;
    DELETE FROM export_parts p USING exports e
    WHERE e.tenant_id = v_key.tenant_id AND e.person_id = v_key.person_id AND e.key_id = p_key_id AND p.export_id = e.export_id;
    DELETE FROM exports e
    WHERE e.tenant_id = v_key.tenant_id AND e.person_id = v_key.person_id AND e.key_id = p_key_id;
    UPDATE personal_keys k SET erased_us = clock_us() WHERE k.key_id = p_key_id;
END $$;
