-- After a restore: these keys were erased later than this database was saved. What is sealed under them goes again, and
-- who had one of kind PROFILE is erased again. How many keys this database had as present.
CREATE FUNCTION forget_erased_keys(p_keys uuid[]) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v record;
    v_forgotten int := 0;
BEGIN
    FOR v IN SELECT k.key_id, k.person_id, k.tenant_id, k.key_kind FROM personal_keys k
             WHERE k.key_id = ANY (p_keys) AND k.erased_us IS NULL ORDER BY k.person_id LOOP
        PERFORM lock_person(v.person_id);
        PERFORM erase_personal_key(v.key_id);
        IF v.key_kind = ${KeyKind.PROFILE} THEN
            INSERT INTO personal_erasures (erasure_id, tenant_id, person_id, at_us)
            VALUES (gen_random_uuid(), v.tenant_id, v.person_id, clock_us()) ON CONFLICT DO NOTHING;
        END IF;
        v_forgotten := v_forgotten + 1;
    END LOOP;
    PERFORM note_keys_gone(p_keys);
    RETURN v_forgotten;
END $$;
