-- Delete what others could encrypt to a device with, all but the keys' own names: they are never used again; and what
-- they wrote to it. Of slices it may have many: those beyond a bound go when they have reached their age.
CREATE FUNCTION drop_keys(p_device uuid) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    UPDATE device_keys SET keys = NULL WHERE device_id = p_device;
    DELETE FROM one_time_keys WHERE device_id = p_device;
    DELETE FROM fallback_keys WHERE device_id = p_device;
    DELETE FROM key_claims WHERE device_id = p_device;
    DELETE FROM device_messages WHERE to_device = p_device;
    DELETE FROM slices WHERE ctid = ANY (ARRAY(SELECT s.ctid FROM slices s WHERE s.to_device = p_device LIMIT 10000));
$$;
