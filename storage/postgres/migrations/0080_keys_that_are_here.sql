-- Who reads the keys of a person reads those that are here: not each device that was ever signed in.
DROP INDEX device_keys_of_principal;
CREATE INDEX device_keys_of_principal ON device_keys (principal_id, device_id) WHERE keys IS NOT NULL;
