-- After a restore: these people were erased in these tenants, and this database may be older than any key of theirs. Who is not
-- erased here is erased again, as by `forget_erased_keys`. `forgotten`: how many people; `still_open` of them.
CREATE FUNCTION forget_erased_people(p_tenants smallint[], p_people uuid[], OUT forgotten int, OUT still_open int)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v record;
BEGIN
    forgotten := 0;
    still_open := 0;
    FOR v IN SELECT x.* FROM unnest(p_tenants, p_people) AS x(tenant_id, person_id) ORDER BY x.person_id LOOP
        IF lock_living(v.tenant_id, v.person_id) THEN
            still_open := still_open + erase_again(v.tenant_id, v.person_id);
            forgotten := forgotten + 1;
        END IF;
    END LOOP;
END $$;
