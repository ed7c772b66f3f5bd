-- Append entries, which the caller has verified, to the log that it has verified them against: `p_length` and `p_head`, of
-- the generation before if these begin another. `p_since` to `p_curve25519` is what they change of `log_devices`.
-- A device that is removed has no keys and no sign-in any more. One that is added may have none here: a restore has lost
-- them, and who gives the log back cannot wait for it.
CREATE FUNCTION append_device_log(
    p_now_ms bigint, p_principal uuid, p_generation bigint, p_length int, p_head bytea, p_from int, p_hashes bytea[],
    p_entries bytea[], p_master_key bytea, p_since int[], p_until int[], p_devices uuid[], p_ed25519 bytea[],
    p_curve25519 bytea[]
) RETURNS smallint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v identities%ROWTYPE;
    v_gone uuid[];
    v_head bytea := p_hashes[cardinality(p_hashes)];
BEGIN
    PERFORM FROM principals p WHERE p.principal_id = p_principal FOR NO KEY UPDATE;  -- see `fill_logs`
    INSERT INTO identities (principal_id, generation, length, head, master_key)
    VALUES (p_principal, 0, 0, '', '') ON CONFLICT DO NOTHING;
    SELECT * INTO v FROM identities i WHERE i.principal_id = p_principal FOR NO KEY UPDATE;
    IF (v.length, v.head) <> (p_length, p_head) THEN
        RETURN ${KeysOutcome.PASSED};
    ELSIF EXISTS (
            SELECT FROM unnest(p_until, p_devices, p_ed25519, p_curve25519) AS u(until, device_id, ed25519, curve25519)
            WHERE u.until IS NULL AND (
                SELECT (d.principal_id, d.ed25519, d.curve25519) <> (p_principal, u.ed25519, u.curve25519)
                FROM device_keys d WHERE d.device_id = u.device_id)) THEN
        RETURN ${KeysOutcome.MISSING};
    END IF;
    IF p_from = 0 THEN
        INSERT INTO former_logs (principal_id, generation, index, hash, entry)
        SELECT l.principal_id, v.generation, l.index, l.hash, l.entry FROM device_logs l
        WHERE l.principal_id = p_principal;
        DELETE FROM former_logs l WHERE l.principal_id = p_principal AND l.generation <= (
            SELECT f.generation FROM former_logs f WHERE f.principal_id = p_principal AND f.index = 0
            ORDER BY f.generation DESC OFFSET ${FORMER_IDENTITIES_MAX} LIMIT 1);
        DELETE FROM device_logs l WHERE l.principal_id = p_principal;
        DELETE FROM log_devices l WHERE l.principal_id = p_principal;
        UPDATE identities i SET master = '', self_signing = '', user_signing = '' WHERE i.principal_id = p_principal;
    END IF;
    INSERT INTO device_logs (principal_id, index, hash, entry)
    SELECT p_principal, p_from + u.nth - 1, u.hash, u.entry
    FROM unnest(p_hashes, p_entries) WITH ORDINALITY AS u(hash, entry, nth);
    -- Ends first: a device that is added again is in the log once.
    UPDATE log_devices l SET until = u.until FROM unnest(p_since, p_until) AS u(since, until)
    WHERE l.principal_id = p_principal AND l.since = u.since;
    INSERT INTO log_devices (principal_id, since, until, device_id, ed25519, curve25519)
    SELECT p_principal, u.*
    FROM unnest(p_since, p_until, p_devices, p_ed25519, p_curve25519) AS u(since, until, device_id, ed25519, curve25519)
    WHERE u.since >= p_from;
    v_gone := ARRAY(
        SELECT u.device_id FROM unnest(p_until, p_devices) AS u(until, device_id)
        WHERE u.until IS NOT NULL AND (
            SELECT true FROM log_devices l
            WHERE l.principal_id = p_principal AND l.device_id = u.device_id AND l.until IS NULL) IS NOT TRUE);
    -- Sign-ins before keys, as whoever uploads locks them. A log can name any device: others' keys stay.
    PERFORM end_sign_ins(p_now_ms, p_principal, ARRAY(
        SELECT s.sign_in_id FROM sign_ins s WHERE s.principal_id = p_principal AND s.device_id = ANY (v_gone)
    ), NULL, ${EndReason.SIGNED_OUT}::smallint, 'sign_in.ended') WHERE v_gone <> '{}';
    PERFORM drop_keys(d.device_id) FROM device_keys d WHERE d.device_id = ANY (v_gone) AND d.principal_id = p_principal;
    UPDATE identities i SET generation = p_generation, length = p_from + cardinality(p_hashes), head = v_head,
        master_key = p_master_key
    WHERE i.principal_id = p_principal;
    INSERT INTO log_announcements (principal_id) VALUES (p_principal)
    ON CONFLICT (principal_id) DO UPDATE SET after = DEFAULT, turn = DEFAULT;
    RETURN ${KeysOutcome.OK};
END $$;
