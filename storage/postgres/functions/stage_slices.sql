-- Store slices of a share, and say what it lacks to be complete, unless `p_more` follow. The row of the device is locked,
-- so its uploads go one after the other; no head is. What the dialog is like is read in one statement, so `covered` holds
-- for this `keys_seq`, which a flush compares.
--
-- A device in `handed_sessions.devices` may have the keys. It has them surely, or will, if it is among the first
-- `authors.covered` of the session that was last shared, or has a slice of this share.
--
-- What only repeats an upload of a complete share writes nothing, so it locks no share: a flush takes one that is locked
-- for incomplete, and what it refuses so as stale may be on its way over another node, which stores it later.
CREATE FUNCTION stage_slices(
    p_now_ms bigint, p_principal uuid, p_device uuid, p_share uuid, p_dialog uuid, p_session bytea, p_keys_seq bigint,
    p_to uuid[], p_bodies bytea[], p_more boolean,
    OUT outcome smallint, OUT keys_seq bigint, OUT complete boolean, OUT missing uuid[], OUT extra uuid[]
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_share shares%ROWTYPE;
    v_author authors%ROWTYPE;
    v_mode smallint;
    v_readers uuid[];
    v_handed uuid[];
    v_has uuid[];
BEGIN
    PERFORM FROM devices d WHERE d.device_id = p_device AND d.principal_id = p_principal FOR NO KEY UPDATE;
    SELECT h.mode, h.keys_seq,
           CASE WHEN h.mode = ${Mode.SEALED} AND h.keys_seq = p_keys_seq THEN ARRAY(
               SELECT k.device_id FROM key_devices(CASE WHEN p_more THEN ARRAY(
                   SELECT DISTINCT d.principal_id FROM unnest(p_to) AS t(device_id)
                   CROSS JOIN LATERAL (  -- OFFSET keeps a plan from beginning with all members
                       SELECT x.principal_id FROM device_keys x WHERE x.device_id = t.device_id OFFSET 0) d
                   WHERE (SELECT o.member FROM members o
                          WHERE o.dialog_id = p_dialog AND o.principal_id = d.principal_id))
               ELSE ARRAY(
                   SELECT o.principal_id FROM members o WHERE o.dialog_id = p_dialog AND o.member) END) k
               WHERE k.device_id <> p_device) END
    INTO v_mode, keys_seq, v_readers
    FROM members m JOIN heads h ON h.dialog_id = m.dialog_id
    WHERE m.dialog_id = p_dialog AND m.principal_id = p_principal AND m.member AND NOT h.deleted;
    SELECT * INTO v_share FROM shares s WHERE s.device_id = p_device AND s.share_id = p_share;
    SELECT * INTO v_author FROM authors a WHERE a.dialog_id = p_dialog AND a.device_id = p_device;
    outcome := CASE
        WHEN v_mode IS NULL THEN ${StagingOutcome.NOT_FOUND}
        WHEN v_mode <> ${Mode.SEALED} THEN ${StagingOutcome.OPEN}
        WHEN (v_share.dialog_id, v_share.session, v_share.keys_seq) <> (p_dialog, p_session, p_keys_seq)
            THEN ${StagingOutcome.CONFLICT}
        WHEN v_share.live OR v_author.share = p_share THEN ${StagingOutcome.OK}
        WHEN p_keys_seq <> keys_seq THEN ${StagingOutcome.STALE}
        WHEN NOT EXISTS (SELECT FROM key_devices(ARRAY[p_principal]) k WHERE k.device_id = p_device)
            THEN ${StagingOutcome.UNLISTED}
        WHEN (SELECT true FROM handed_sessions x WHERE x.dialog_id = p_dialog AND x.device_id = p_device
                                                   AND x.session = p_session AND x.left_at_ms IS NOT NULL)
            THEN ${StagingOutcome.LEFT}
        WHEN NOT p_to <@ v_readers THEN ${StagingOutcome.STRANGER}
        WHEN EXISTS (
            SELECT FROM unnest(p_to, p_bodies) AS x(to_device, body)
            WHERE (SELECT s.body <> x.body FROM slices s  -- not a join, whose plan may read the whole share for each
                   WHERE s.device_id = p_device AND s.share_id = p_share AND s.to_device = x.to_device)) THEN ${StagingOutcome.CONFLICT}
        ELSE ${StagingOutcome.OK} END;
    complete := outcome = ${StagingOutcome.OK} AND (
        v_share.live OR v_author.share = p_share OR (NOT p_more AND v_share.covered IS NOT NULL AND NOT EXISTS (
            SELECT unnest(p_to)
            EXCEPT SELECT s.to_device FROM slices s WHERE s.device_id = p_device AND s.share_id = p_share))) IS TRUE;
    IF outcome <> ${StagingOutcome.OK} OR complete THEN
        RETURN;
    END IF;

    PERFORM drop_shares(p_device, ARRAY(
        SELECT s.share_id FROM shares s
        WHERE s.device_id = p_device AND s.dialog_id = p_dialog AND NOT s.live AND s.keys_seq <> p_keys_seq));
    IF v_share.share_id IS NULL THEN
        -- Of some the message was refused, or given up: they are the oldest, since a device has no more than these under way.
        PERFORM drop_shares(p_device, ARRAY(
            SELECT s.share_id FROM shares s WHERE s.device_id = p_device AND NOT s.live
            ORDER BY s.staged_at_ms DESC, s.share_id DESC OFFSET ${SHARES_IN_FLIGHT_MAX} - 1 FOR UPDATE SKIP LOCKED));
        UPDATE handed_sessions x SET devices = '{}', left_at_ms = p_now_ms
        WHERE x.dialog_id = p_dialog AND x.device_id = p_device AND x.session <> p_session AND x.left_at_ms IS NULL
          AND x.session IS DISTINCT FROM (
              SELECT a.session FROM authors a WHERE a.dialog_id = p_dialog AND a.device_id = p_device)
          AND NOT EXISTS (
              SELECT FROM shares s WHERE s.device_id = p_device AND s.dialog_id = p_dialog AND s.session = x.session
                                     AND NOT s.live);
        INSERT INTO shares (device_id, share_id, principal_id, dialog_id, session, keys_seq, staged_at_ms)
        VALUES (p_device, p_share, p_principal, p_dialog, p_session, p_keys_seq, p_now_ms);
    END IF;
    INSERT INTO slices (to_device, device_id, share_id, body)
    SELECT x.to_device, p_device, p_share, x.body FROM unnest(p_to, p_bodies) AS x(to_device, body)
    ON CONFLICT (device_id, share_id, to_device) DO NOTHING;
    INSERT INTO handed_sessions AS x (dialog_id, device_id, session, devices)
    VALUES (p_dialog, p_device, p_session, p_to)
    ON CONFLICT (dialog_id, device_id, session) DO UPDATE
    SET devices = x.devices || ARRAY(SELECT t FROM unnest(p_to) t WHERE t <> ALL (x.devices))
    RETURNING x.devices INTO v_handed;
    IF p_more THEN
        RETURN;
    END IF;

    v_has := ARRAY(SELECT s.to_device FROM slices s WHERE s.device_id = p_device AND s.share_id = p_share)
        || CASE WHEN v_author.session = p_session THEN v_handed[:v_author.covered] ELSE '{}' END;
    missing := ARRAY(SELECT unnest(v_readers) EXCEPT SELECT unnest(v_has) LIMIT ${SHARE_DEVICES_NAMED_MAX});
    extra := ARRAY(SELECT unnest(v_handed) EXCEPT SELECT unnest(v_readers) LIMIT ${SHARE_DEVICES_NAMED_MAX});
    complete := missing = '{}' AND extra = '{}';
    UPDATE shares s SET covered = CASE WHEN complete THEN cardinality(v_handed) END
    WHERE s.device_id = p_device AND s.share_id = p_share;
END $$;
