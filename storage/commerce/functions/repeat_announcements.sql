-- In a new epoch of the chat what it had taken may be lost: announce newest versions anew, `p_limit` of them in a call.
--
-- What has been at rest since before `p_since_us` is left out. Returns whether there is more. The leases of these places end:
-- an answer of the epoch before is not noted any more. The first epoch that is seen repeats nothing.
CREATE FUNCTION repeat_announcements(p_tenant smallint, p_epoch bigint, p_since_us bigint, p_limit int) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_now_us bigint := clock_us();
    v_seen chat_epochs%ROWTYPE;
    v_place bigint[];
    v_payment uuid[];
BEGIN
    IF NOT books_serve() THEN
        RETURN false;
    END IF;
    INSERT INTO chat_epochs (tenant_id, epoch) VALUES (p_tenant, p_epoch) ON CONFLICT DO NOTHING;
    SELECT e.* INTO v_seen FROM chat_epochs e WHERE e.tenant_id = p_tenant FOR NO KEY UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN false;  -- another relay is at it
    ELSIF p_epoch > v_seen.epoch THEN
        v_seen.place_no := 0;
        v_seen.payment_id := '${NIL}';
    ELSIF v_seen.place_no IS NULL THEN
        RETURN false;
    END IF;
    SELECT array_agg(x.place_no), array_agg(x.payment_id) INTO v_place, v_payment FROM (
        SELECT a.place_no, a.payment_id FROM announcements a
        WHERE (a.place_no, a.payment_id) > (v_seen.place_no, v_seen.payment_id)
        ORDER BY a.place_no, a.payment_id LIMIT p_limit) x;
    PERFORM FROM places p WHERE p.place_no = ANY (v_place) AND p.tenant_id = p_tenant ORDER BY p.place_no FOR NO KEY UPDATE;
    WITH repeated AS (
        UPDATE announcements a SET done = 0, since_us = v_now_us
        FROM unnest(v_place, v_payment) AS x(place_no, payment_id), payments y, places p
        WHERE a.place_no = x.place_no AND a.payment_id = x.payment_id AND y.payment_id = a.payment_id
          AND p.place_no = a.place_no AND p.tenant_id = p_tenant AND (a.done > 0 OR a.n IS NOT NULL)
          AND (y.moved_us >= p_since_us OR y.state IN (${PaymentState.REQUESTED}, ${PaymentState.HELD},
                                                       ${PaymentState.REFUNDING}, ${PaymentState.DISPUTED}))
        RETURNING a.place_no
    )
    UPDATE places p SET lease = p.lease + 1, due_us = v_now_us
    FROM (SELECT DISTINCT r.place_no FROM repeated r) t WHERE p.place_no = t.place_no;
    UPDATE chat_epochs e
    SET epoch = greatest(e.epoch, p_epoch), place_no = v_place[p_limit], payment_id = v_payment[p_limit]
    WHERE e.tenant_id = p_tenant;
    RETURN coalesce(cardinality(v_place) = p_limit, false);
END $$;
