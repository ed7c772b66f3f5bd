-- The devices of these people that messages are encrypted for: they are in the device log, and their keys are here.
CREATE FUNCTION key_devices(p_principals uuid[]) RETURNS TABLE (principal_id uuid, device_id uuid)
LANGUAGE sql STABLE
AS $$
    -- OFFSET keeps a plan from beginning with the devices of everybody.
    SELECT l.principal_id, l.device_id FROM unnest(p_principals) AS p(principal_id)
    CROSS JOIN LATERAL (
        SELECT x.* FROM log_devices x WHERE x.principal_id = p.principal_id AND x.until IS NULL OFFSET 0) l
    WHERE (SELECT (d.principal_id, d.ed25519, d.curve25519) = (l.principal_id, l.ed25519, l.curve25519)
           FROM device_keys d WHERE d.device_id = l.device_id AND d.keys IS NOT NULL)
$$;
