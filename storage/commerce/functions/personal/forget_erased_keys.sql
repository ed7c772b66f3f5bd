-- After a restore: these keys were erased later than this database was saved. What is sealed under them goes again, and
-- who had one of kind PROFILE is erased again. How many keys this database had as present.
CREATE FUNCTION forget_erased_keys(p_keys uuid[]) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v record;
    v_forgotten int := 0;
BEGIN
    -- OFFSET 0: else the planner may read the whole index of keys that are not erased.
    FOR v IN SELECT x.* FROM (SELECT k.* FROM personal_keys k WHERE k.key_id = ANY (p_keys) OFFSET 0) x
             WHERE x.erased_us IS NULL ORDER BY x.person_id LOOP
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
