-- Delete what others could encrypt to a device with, all but the keys' own names: they are never used again; and what
-- they wrote to it. Of slices it may have many: those beyond a bound go when they have reached their age. It has left its
-- sessions: if it comes back, it begins others.
CREATE FUNCTION drop_keys(p_device uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    UPDATE device_keys SET keys = NULL WHERE device_id = p_device;
    DELETE FROM one_time_keys WHERE device_id = p_device;
    DELETE FROM fallback_keys WHERE device_id = p_device;
    DELETE FROM key_claims WHERE device_id = p_device;
    DELETE FROM device_messages WHERE to_device = p_device;
    DELETE FROM slices WHERE ctid = ANY (ARRAY(SELECT s.ctid FROM slices s WHERE s.to_device = p_device LIMIT 10000));
    UPDATE handed_sessions SET devices = '{}', left_at_ms = unix_ms() WHERE ctid = ANY (ARRAY(
        SELECT x.ctid FROM handed_sessions x WHERE x.device_id = p_device AND x.left_at_ms IS NULL LIMIT 10000
        FOR UPDATE SKIP LOCKED));
END $$;
