-- After a restore: these keys were erased later than this database was saved. What is sealed under them goes again, and
-- who had one of kind PROFILE is erased again. Money that is open again stays as it is: a line of the audit says of whom, and
-- `still_open` how many they are. `forgotten`: how many keys this database had as present.
CREATE FUNCTION forget_erased_keys(p_keys uuid[], OUT forgotten int, OUT still_open int)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v record;
BEGIN
    forgotten := 0;
    still_open := 0;
    -- OFFSET 0: else the planner may read the whole index of keys that are not erased.
    FOR v IN SELECT x.* FROM (SELECT k.* FROM personal_keys k WHERE k.key_id = ANY (p_keys) OFFSET 0) x
             WHERE x.erased_us IS NULL ORDER BY x.person_id LOOP
        IF v.key_kind = ${KeyKind.PROFILE} AND lock_living(v.tenant_id, v.person_id) THEN
            still_open := still_open + erase_again(v.tenant_id, v.person_id);
        ELSE
            PERFORM lock_person(v.person_id);
            PERFORM erase_personal_key(v.key_id);
        END IF;
        forgotten := forgotten + 1;
    END LOOP;
    PERFORM note_keys_gone(p_keys);
END $$;
