-- The keys of a device go when its sign-in ends, or is deleted after it has expired; not when the device signs in anew.
CREATE OR REPLACE FUNCTION end_keys() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_OP = 'DELETE' AND EXISTS (
            SELECT FROM sign_ins s
            WHERE s.principal_id = OLD.principal_id AND s.device_id = OLD.device_id AND s.revoked_at_ms IS NULL) THEN
        RETURN NULL;
    END IF;
    PERFORM drop_keys(OLD.device_id);
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER sign_in_ends_keys AFTER UPDATE OF revoked_at_ms ON sign_ins
    FOR EACH ROW WHEN (OLD.revoked_at_ms IS NULL AND NEW.revoked_at_ms IS NOT NULL
                       AND NEW.revoked_why IS DISTINCT FROM ${EndReason.REPLACED})
    EXECUTE FUNCTION end_keys();
CREATE OR REPLACE TRIGGER sign_in_goes_keys AFTER DELETE ON sign_ins
    FOR EACH ROW WHEN (OLD.revoked_at_ms IS NULL)
    EXECUTE FUNCTION end_keys();
