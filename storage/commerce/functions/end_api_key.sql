-- End the key of a platform service at once; whether there was one. What it asked for keeps its answers.
CREATE FUNCTION end_api_key(p_tenant smallint, p_name text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_caller uuid;
BEGIN
    UPDATE api_keys SET key_hash = NULL WHERE tenant_id = p_tenant AND name = p_name AND key_hash IS NOT NULL
    RETURNING caller_id INTO v_caller;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO audit (at_us, tenant_id, action, actor_id, subject_id, detail)
    VALUES (clock_us(), p_tenant, 'end_api_key', '${NIL}', v_caller, p_name);
    RETURN true;
END $$;
