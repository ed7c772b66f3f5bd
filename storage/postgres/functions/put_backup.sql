-- Add values to the backup of the present identity of a person; some of those of former identities go when they are old.
CREATE FUNCTION put_backup(
    p_now_ms bigint, p_principal uuid, p_device uuid, p_generation bigint, p_keys bytea[], p_versions bigint[],
    p_values bytea[], p_values_max bigint
) RETURNS smallint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_count bigint;
    v_rows bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM identities i WHERE i.principal_id = p_principal AND i.generation = p_generation)
            OR NOT EXISTS (SELECT FROM key_devices(ARRAY[p_principal]) k WHERE k.device_id = p_device) THEN
        RETURN ${BackupOutcome.PASSED};
    END IF;
    INSERT INTO backup_counts (principal_id) VALUES (p_principal) ON CONFLICT DO NOTHING;
    SELECT c.held INTO v_count FROM backup_counts c WHERE c.principal_id = p_principal FOR NO KEY UPDATE;
    DELETE FROM backups WHERE ctid = ANY (ARRAY(
        SELECT x.ctid FROM (
            SELECT b.ctid, b.at_ms FROM backups b
            WHERE b.principal_id = p_principal AND b.generation < p_generation ORDER BY b.generation, b.key LIMIT 100) x
        WHERE x.at_ms <= p_now_ms - ${BACKUP_KEPT_DAYS} * ${DAY_MS}::bigint));
    GET DIAGNOSTICS v_rows = ROW_COUNT;
    v_count := v_count - v_rows + (
        SELECT count(*) FROM unnest(p_keys) AS u(key)
        WHERE (SELECT true FROM backups b
               WHERE b.principal_id = p_principal AND b.generation = p_generation AND b.key = u.key) IS NOT TRUE);
    IF v_count > p_values_max THEN
        RETURN ${BackupOutcome.BOUND};
    END IF;
    INSERT INTO backups AS b (principal_id, generation, key, version, at_ms, value)
    SELECT p_principal, p_generation, u.key, u.version, p_now_ms, u.value
    FROM unnest(p_keys, p_versions, p_values) AS u(key, version, value)
    ON CONFLICT (principal_id, generation, key) DO UPDATE
    SET version = excluded.version, at_ms = excluded.at_ms, value = excluded.value
    WHERE b.version < excluded.version;
    UPDATE backup_counts c SET held = v_count WHERE c.principal_id = p_principal;
    RETURN ${BackupOutcome.OK};
END $$;
