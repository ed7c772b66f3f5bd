-- Note a sign-in that ends, with its reason, or a principal that is suspended or deleted, with its status: every node
-- closes the sessions that it has of them.
CREATE OR REPLACE FUNCTION note_ended_access() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_TABLE_NAME = 'sign_ins' THEN
        INSERT INTO ended_access (at_ms, principal_id, sign_in_id, why)
        VALUES (unix_ms(), NEW.principal_id, NEW.sign_in_id, coalesce(NEW.revoked_why, ${EndReason.SIGNED_OUT}));
    ELSE
        INSERT INTO ended_access (at_ms, principal_id, why) VALUES (unix_ms(), NEW.principal_id, NEW.status);
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER sign_in_ends AFTER UPDATE OF revoked_at_ms ON sign_ins
    FOR EACH ROW WHEN (OLD.revoked_at_ms IS NULL AND NEW.revoked_at_ms IS NOT NULL)
    EXECUTE FUNCTION note_ended_access();
CREATE OR REPLACE TRIGGER principal_ends AFTER UPDATE OF status ON principals
    FOR EACH ROW WHEN (NEW.status <> OLD.status AND NEW.status <> ${PrincipalStatus.ACTIVE})
    EXECUTE FUNCTION note_ended_access();
