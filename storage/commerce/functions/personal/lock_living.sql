-- Lock a person; whether they are not erased in this tenant, and stay so until the end of the step.
CREATE FUNCTION lock_living(p_tenant smallint, p_person uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM lock_person(p_person);
    RETURN NOT EXISTS (SELECT FROM personal_erasures e WHERE e.tenant_id = p_tenant AND e.person_id = p_person);
END $$;
