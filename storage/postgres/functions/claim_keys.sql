-- Give a device one key of each of the devices in `p_targets` that are of members of the dialog, under the number of its
-- claim: a one-time key, or the fallback key of those in `p_limited` and of who has no other left.
--
-- The claims of one device go one after the other (its row is locked). Of two claimers that want keys of one device, each
-- skips what the other has locked: no claim waits for one of another device, so none can be in a circle.
CREATE FUNCTION claim_keys(
    p_device uuid, p_principal uuid, p_dialog uuid, p_claim bigint, p_targets uuid[], p_limited uuid[],
    OUT outcome smallint, OUT devices uuid[], OUT key_nos bigint[], OUT keys bytea[], OUT fallbacks boolean[]
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_epoch bigint;
    v_last bigint;
    v_found key_claims%ROWTYPE;
BEGIN
    SELECT d.last_claim INTO v_last FROM device_keys d
    WHERE d.device_id = p_device AND d.keys IS NOT NULL FOR NO KEY UPDATE;
    IF v_last IS NULL THEN
        outcome := ${KeysOutcome.MISSING};
        RETURN;
    ELSIF (SELECT m.member FROM members m WHERE m.dialog_id = p_dialog AND m.principal_id = p_principal) IS NOT TRUE THEN
        outcome := ${KeysOutcome.NOT_FOUND};
        RETURN;
    END IF;
    v_epoch := (SELECT d.epoch FROM deployment d);
    SELECT * INTO v_found FROM key_claims c WHERE c.device_id = p_device AND c.claim = p_claim;
    IF v_found.epoch = v_epoch THEN
        IF v_found.targets <> p_targets THEN
            outcome := ${KeysOutcome.CONFLICT};
            RETURN;
        END IF;
        outcome := ${KeysOutcome.OK};
        devices := v_found.devices;
        key_nos := v_found.key_nos;
        keys := v_found.keys;
        fallbacks := v_found.fallbacks;
        RETURN;
    ELSIF p_claim <= v_last AND v_found.epoch IS NULL THEN
        outcome := ${KeysOutcome.PASSED};
        RETURN;
    END IF;

    WITH wanted AS MATERIALIZED (
        SELECT DISTINCT d.device_id FROM unnest(p_targets) AS t(device_id)
        JOIN device_keys d ON d.device_id = t.device_id AND d.device_id <> p_device AND d.keys IS NOT NULL
        WHERE (SELECT m.member FROM members m WHERE m.dialog_id = p_dialog AND m.principal_id = d.principal_id)
    ), picked AS MATERIALIZED (
        SELECT k.* FROM wanted w CROSS JOIN LATERAL (
            SELECT o.device_id, o.key_no FROM one_time_keys o
            WHERE o.device_id = w.device_id AND o.epoch = v_epoch
            ORDER BY o.key_no LIMIT 1 FOR UPDATE SKIP LOCKED) k
        WHERE w.device_id <> ALL (p_limited)
    ), taken AS (
        DELETE FROM one_time_keys o USING picked p WHERE o.device_id = p.device_id AND o.key_no = p.key_no
        RETURNING o.device_id, o.key_no, o.key
    ), unused AS MATERIALIZED (
        SELECT f.device_id FROM wanted w JOIN fallback_keys f ON f.device_id = w.device_id
        WHERE NOT f.used AND w.device_id NOT IN (SELECT device_id FROM picked)
        FOR NO KEY UPDATE OF f SKIP LOCKED
    ), marked AS (
        UPDATE fallback_keys f SET used = true FROM unused u WHERE f.device_id = u.device_id
    ), given AS (
        SELECT t.device_id, t.key_no, t.key, false AS fallback FROM taken t
        UNION ALL
        SELECT f.device_id, f.key_no, f.key, true FROM wanted w JOIN fallback_keys f ON f.device_id = w.device_id
        WHERE w.device_id NOT IN (SELECT device_id FROM picked)
    )
    SELECT coalesce(array_agg(g.device_id), '{}'), coalesce(array_agg(g.key_no), '{}'),
           coalesce(array_agg(g.key), '{}'), coalesce(array_agg(g.fallback), '{}')
    INTO devices, key_nos, keys, fallbacks FROM given g;

    DELETE FROM key_claims c
    WHERE c.device_id = p_device AND (c.claim <= p_claim - ${KEY_CLAIMS_KEPT} OR c.claim = p_claim);
    INSERT INTO key_claims VALUES (p_device, p_claim, v_epoch, p_targets, devices, key_nos, keys, fallbacks);
    UPDATE device_keys d SET last_claim = greatest(d.last_claim, p_claim) WHERE d.device_id = p_device;
    outcome := ${KeysOutcome.OK};
END $$;
