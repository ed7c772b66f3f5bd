-- Delete what is sealed under a key, and have the key erased. The person is locked.
CREATE FUNCTION erase_personal_key(p_key_id uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_person uuid := (SELECT k.person_id FROM personal_keys k WHERE k.key_id = p_key_id);
BEGIN
    DELETE FROM personal_items i WHERE i.person_id = v_person AND i.key_id = p_key_id;
    DELETE FROM export_parts p USING exports e
    WHERE e.person_id = v_person AND e.key_id = p_key_id AND p.export_id = e.export_id;
    DELETE FROM exports e WHERE e.person_id = v_person AND e.key_id = p_key_id;
    UPDATE personal_keys k SET erased_us = clock_us() WHERE k.key_id = p_key_id;
END $$;
