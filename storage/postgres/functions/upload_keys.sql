-- Store the keys of a device, and new one-time keys and a new fallback key of it. Returns what there is then. When the keys
-- of a device come back that its log has listed all the time, its person's dialogs are told: who seals there left it out.
--
-- The sign-in's row is held, so either whoever ends it waits and deletes these keys, or this sees that it has ended.
CREATE FUNCTION upload_keys(
    p_sign_in uuid, p_device uuid, p_principal uuid, p_generation bigint, p_keys bytea, p_ed25519 bytea,
    p_curve25519 bytea, p_key_nos bigint[], p_one_time bytea[], p_fallback_no bigint, p_fallback bytea,
    OUT outcome smallint, OUT held int, OUT fallback_used boolean
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v device_keys%ROWTYPE;
    v_epoch bigint := (SELECT d.epoch FROM deployment d);
BEGIN
    PERFORM FROM sign_ins s
    WHERE s.sign_in_id = p_sign_in AND s.device_id = p_device AND s.revoked_at_ms IS NULL FOR SHARE;
    IF NOT FOUND THEN
        outcome := ${KeysOutcome.SIGNED_OUT};
        RETURN;
    END IF;
    INSERT INTO device_keys (device_id, principal_id, generation, ed25519, curve25519)
    VALUES (p_device, p_principal, p_generation, p_ed25519, p_curve25519) ON CONFLICT DO NOTHING;
    SELECT * INTO v FROM device_keys d WHERE d.device_id = p_device FOR NO KEY UPDATE;
    IF v.device_id IS NULL OR (v.generation < p_generation AND EXISTS (
            SELECT FROM device_keys d WHERE d.ed25519 = p_ed25519 OR d.curve25519 = p_curve25519)) THEN
        outcome := ${KeysOutcome.REUSED};
        RETURN;
    ELSIF v.generation > p_generation
            OR (v.generation = p_generation AND (v.ed25519, v.curve25519) <> (p_ed25519, p_curve25519)) THEN
        outcome := ${KeysOutcome.PASSED};
        RETURN;
    ELSIF v.generation < p_generation THEN
        PERFORM drop_keys(p_device);
        v.last_key := -1;
    END IF;

    DELETE FROM one_time_keys o WHERE o.device_id = p_device AND o.epoch <> v_epoch;
    held := (SELECT count(*) FROM one_time_keys o WHERE o.device_id = p_device)
        + (SELECT count(*) FROM unnest(p_key_nos) AS u(key_no) WHERE u.key_no > v.last_key);
    IF held > ${ONE_TIME_KEYS_MAX} THEN
        outcome := ${KeysOutcome.BOUND};
        RETURN;
    END IF;
    INSERT INTO one_time_keys (device_id, key_no, epoch, key)
    SELECT p_device, u.key_no, v_epoch, u.key FROM unnest(p_key_nos, p_one_time) AS u(key_no, key)
    WHERE u.key_no > v.last_key;
    INSERT INTO fallback_keys AS f (device_id, key_no, key)
    SELECT p_device, p_fallback_no, p_fallback WHERE p_fallback IS NOT NULL
    ON CONFLICT (device_id) DO UPDATE SET key_no = excluded.key_no, key = excluded.key, used = false
    WHERE f.key_no < excluded.key_no;
    UPDATE device_keys d SET generation = p_generation, ed25519 = p_ed25519, curve25519 = p_curve25519, keys = p_keys,
        last_claim = CASE WHEN d.generation < p_generation THEN 0 ELSE d.last_claim END,
        last_key = greatest(v.last_key, (SELECT max(u.key_no) FROM unnest(p_key_nos) AS u(key_no)))
    WHERE d.device_id = p_device;
    IF v.keys IS NULL AND EXISTS (SELECT FROM key_devices(ARRAY[p_principal]) k WHERE k.device_id = p_device) THEN
        INSERT INTO log_announcements (principal_id, again_ms) VALUES (p_principal, 0)
        ON CONFLICT (principal_id) DO UPDATE SET again_ms = 0, after = DEFAULT, turn = DEFAULT;
    END IF;
    fallback_used := coalesce((SELECT f.used FROM fallback_keys f WHERE f.device_id = p_device), false);
    outcome := ${KeysOutcome.OK};
END $$;
