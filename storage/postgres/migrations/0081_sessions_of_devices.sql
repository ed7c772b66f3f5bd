-- A device whose keys go has left its sessions: they are found by the device, to be forgotten like any that was left.
CREATE INDEX handed_sessions_of_device ON handed_sessions (device_id) WHERE left_at_ms IS NULL;
UPDATE handed_sessions x SET devices = '{}', left_at_ms = (extract(epoch FROM clock_timestamp()) * 1000)::bigint
FROM device_keys k WHERE k.device_id = x.device_id AND k.keys IS NULL AND x.left_at_ms IS NULL;
