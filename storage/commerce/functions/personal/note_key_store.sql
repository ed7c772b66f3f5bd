-- The key store that this database is written with from now on.
CREATE FUNCTION note_key_store(p_store uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    DELETE FROM personal_store WHERE NOT EXISTS (SELECT FROM personal_keys);  -- nothing is lost with the one before
    INSERT INTO personal_store (store_id) VALUES (p_store) ON CONFLICT DO NOTHING;
END $$;
