-- Keep the sealed body of a webhook, once, and that its object is to be fetched. False if too many wait: the gateway sends it
-- again.
CREATE FUNCTION note_webhook(p_gateway text, p_kind text, p_object text, p_digest bytea, p_sealed bytea, p_max int) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    IF (SELECT count(*) FROM (SELECT FROM gateway_hints h WHERE h.gateway = p_gateway LIMIT p_max) w) >= p_max THEN
        RETURN false;
    END IF;
    INSERT INTO webhook_bodies (gateway, at_us, digest, sealed) VALUES (p_gateway, clock_us(), p_digest, p_sealed)
    ON CONFLICT (gateway, digest) DO NOTHING;
    IF p_object IS NOT NULL THEN
        INSERT INTO gateway_hints AS h (gateway, kind, object_id, due_us) VALUES (p_gateway, p_kind, p_object, clock_us())
        ON CONFLICT (gateway, kind, object_id) DO UPDATE SET noted = h.noted + 1, failures = 0, due_us = clock_us();
    END IF;
    RETURN true;
END $$;
