-- Store messages of a device to devices of members of a dialog. What depends on others is judged before anything is
-- locked; the bounds, and whether it is a repetition, under the locks of all mailboxes that it touches.
CREATE FUNCTION send_to_devices(
    p_now_ms bigint, p_principal uuid, p_device uuid, p_message uuid, p_dialog uuid, p_to uuid[], p_bodies bytea[]
) RETURNS smallint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_owners uuid[];
    v_sent uuid[];
BEGIN
    PERFORM FROM members m JOIN heads h ON h.dialog_id = m.dialog_id
    WHERE m.dialog_id = p_dialog AND m.principal_id = p_principal AND m.member AND NOT h.deleted;
    IF NOT FOUND THEN
        RETURN ${SendOutcome.NOT_FOUND};
    END IF;
    v_owners := ARRAY(
        SELECT k.principal_id FROM unnest(p_to) AS t(device_id)
        JOIN device_keys k ON k.device_id = t.device_id AND k.keys IS NOT NULL
        WHERE (SELECT m.member FROM members m WHERE m.dialog_id = p_dialog AND m.principal_id = k.principal_id));
    IF cardinality(v_owners) < cardinality(p_to) THEN
        RETURN ${SendOutcome.STRANGER};
    ELSIF EXISTS (
            SELECT FROM unnest(v_owners) AS o(principal_id)
            WHERE (SELECT true FROM blocks b WHERE b.blocker_id = o.principal_id AND b.blocked_id = p_principal)
               OR (SELECT true FROM blocks b WHERE b.blocker_id = p_principal AND b.blocked_id = o.principal_id)) THEN
        RETURN ${SendOutcome.BLOCKED};
    END IF;

    INSERT INTO mailboxes (device_id) SELECT DISTINCT d FROM unnest(p_device || p_to) d ORDER BY d
    ON CONFLICT DO NOTHING;
    PERFORM FROM mailboxes x WHERE x.device_id = ANY (p_device || p_to) ORDER BY x.device_id FOR NO KEY UPDATE;
    SELECT x.sent INTO v_sent FROM mailboxes x WHERE x.device_id = p_device;
    IF p_message = ANY (v_sent) THEN
        RETURN ${SendOutcome.OK};
    ELSIF EXISTS (
            SELECT FROM unnest(p_to) AS t(device_id)
            CROSS JOIN LATERAL (
                SELECT count(*) FILTER (WHERE w.author_id = p_principal) AS of_author,
                       count(*) FILTER (WHERE NOT w.own) AS of_others
                FROM device_messages w WHERE w.to_device = t.device_id) c
            WHERE c.of_author >= ${DEVICE_MESSAGES_BY_ONE_MAX}
               OR (c.of_others >= ${DEVICE_MESSAGES_WAITING_MAX}
                   AND (SELECT k.principal_id FROM device_keys k WHERE k.device_id = t.device_id) <> p_principal)) THEN
        RETURN ${SendOutcome.BOUND};
    END IF;
    WITH numbered AS (
        UPDATE mailboxes x SET last_number = x.last_number + 1 WHERE x.device_id = ANY (p_to)
        RETURNING x.device_id, x.last_number)
    INSERT INTO device_messages (to_device, number, dialog_id, author_id, device_id, own, at_ms, body)
    SELECT t.device_id, n.last_number, p_dialog, p_principal, p_device, k.principal_id = p_principal, p_now_ms, t.body
    FROM unnest(p_to, p_bodies) AS t(device_id, body)
    JOIN numbered n ON n.device_id = t.device_id JOIN device_keys k ON k.device_id = t.device_id;
    UPDATE mailboxes x SET sent = (v_sent || p_message)[greatest(1, cardinality(v_sent) + 2 - ${DEVICE_MESSAGES_REMEMBERED}):]
    WHERE x.device_id = p_device;
    RETURN ${SendOutcome.OK};
END $$;
