-- The lock of everything personal of a person: after keys, before accounts.
CREATE FUNCTION lock_person(p_person uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(uuid_hash_extended(p_person, 1));
END $$;
