-- The write path: `flush` for content, `change` for everything that alters a roster, settings or a row.
--
-- Each is one call in autocommit, so that its fate never waits for the node. Both lock heads first and
-- judge *then*: in READ COMMITTED every statement of a VOLATILE function takes a new snapshot, so the
-- verdicts see all that was committed by whoever held the lock before. Plans are forced to be nested
-- loops over keys: one made while a table was empty would otherwise scan it when it is full.
-- Rows of members, and of mark_heads, are always locked in the order of their keys, so that nobody waits in a circle.
-- Codes are those of `storage.rows.VerdictCode`, tags those of `protocol.bodies`.

CREATE FUNCTION flush(
    p_incarnation bigint, p_flush_no bigint, p_wait boolean,
    p_dialog uuid[], p_author uuid[], p_device uuid[], p_n bigint[], p_tag smallint[], p_target bigint[],
    p_keys_seq bigint[], p_expires_at_ms bigint[], p_counts boolean[], p_body bytea[]
) RETURNS TABLE (
    ord bigint, code smallint, seq bigint, at_ms bigint, messages bigint,
    member_count int, roster_seq bigint, keys_seq bigint, erased boolean
)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET enable_bitmapscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_locked uuid[];
    v_now_ms bigint;
BEGIN
    IF p_wait THEN
        SELECT array_agg(x.dialog_id) INTO v_locked FROM (
            SELECT h.dialog_id FROM heads h WHERE h.dialog_id = ANY (p_dialog)
            ORDER BY h.dialog_id FOR NO KEY UPDATE) x;
    ELSE
        SELECT array_agg(x.dialog_id) INTO v_locked FROM (
            SELECT h.dialog_id FROM heads h WHERE h.dialog_id = ANY (p_dialog)
            ORDER BY h.dialog_id FOR NO KEY UPDATE SKIP LOCKED) x;
    END IF;
    v_now_ms := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;

    RETURN QUERY
    WITH r AS MATERIALIZED (
        SELECT * FROM unnest(p_dialog, p_author, p_device, p_n, p_tag, p_target, p_keys_seq,
                             p_expires_at_ms, p_counts, p_body) WITH ORDINALITY
            AS u(dialog_id, author_id, device_id, n, tag, target, keys_seq, expires_at_ms, counts, body, ord)
    ), judged AS MATERIALIZED (
        SELECT r.ord, r.dialog_id, r.author_id, r.device_id, r.n, r.tag, r.target, r.expires_at_ms,
               r.counts, r.body,
               h.seq AS h_seq, h.messages AS h_messages, h.member_count, h.roster_seq, h.keys_seq, a.last_n,
               d.seq AS d_seq, d.at_ms AS d_at_ms, d.messages AS d_messages, d.tag AS d_tag,
               (CASE
                    WHEN h.dialog_id IS NULL THEN
                        CASE WHEN EXISTS (SELECT 1 FROM heads x WHERE x.dialog_id = r.dialog_id)
                             THEN 16 ELSE 5 END
                    WHEN d.seq IS NOT NULL THEN
                        CASE WHEN d.tag = 5 OR (d.tag = r.tag AND d.author_id = r.author_id
                                                AND d.target IS NOT DISTINCT FROM r.target
                                                AND d.body = r.body)
                             THEN 1 ELSE 2 END
                    WHEN p.principal_id IS NULL OR p.tenant_id <> h.tenant_id THEN 5
                    WHEN m.member IS NOT TRUE AND p.type <> 4 THEN 5
                    WHEN r.n <= a.last_n THEN 3
                    WHEN p.status <> 1 THEN 8
                    WHEN h.admins_only AND p.type <> 4 AND m.role <> 1 THEN 6
                    WHEN h.type = 2 AND EXISTS (
                        SELECT 1 FROM blocks b JOIN members o
                            ON o.dialog_id = r.dialog_id AND o.principal_id = b.blocker_id
                        WHERE b.blocked_id = r.author_id) THEN 7
                    WHEN h.mode = 1 AND r.keys_seq < h.keys_seq THEN 4
                    WHEN r.target IS NOT NULL AND (
                        t.seq IS NULL OR t.tag <> 1 OR m.visible @> t.seq IS NOT TRUE
                        OR (r.tag = 2 AND t.author_id <> r.author_id)) THEN 9
                    ELSE 0
                END)::smallint AS code
        FROM r
        LEFT JOIN heads h ON h.dialog_id = r.dialog_id AND r.dialog_id = ANY (v_locked)
        LEFT JOIN authors a ON a.dialog_id = r.dialog_id AND a.device_id = r.device_id
        LEFT JOIN members m ON m.dialog_id = r.dialog_id AND m.principal_id = r.author_id
        LEFT JOIN principals p ON p.principal_id = r.author_id
        LEFT JOIN journal t ON t.dialog_id = r.dialog_id AND t.seq = r.target
        LEFT JOIN LATERAL (
            SELECT j.seq, j.at_ms, j.messages, j.tag, j.target, j.author_id, j.body FROM journal j
            WHERE r.n <= a.last_n AND j.dialog_id = r.dialog_id AND j.device_id = r.device_id AND j.n = r.n
            LIMIT 1) d ON true
    ), numbered AS MATERIALIZED (
        SELECT j.*,
               j.h_seq + count(*) FILTER (WHERE j.code = 0) OVER in_order AS seq,
               j.h_messages + count(*) FILTER (WHERE j.code = 0 AND j.counts) OVER in_order AS messages
        FROM judged j
        WINDOW in_order AS (PARTITION BY j.dialog_id ORDER BY j.ord ROWS UNBOUNDED PRECEDING)
    ), appended AS (
        INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, target, at_ms, messages,
                             expires_at_ms, incarnation, flush_no, body)
        SELECT x.dialog_id, x.seq, x.author_id, x.device_id, x.n, x.tag, x.target, v_now_ms, x.messages,
               x.expires_at_ms, p_incarnation, p_flush_no, x.body
        FROM numbered x WHERE x.code = 0
    ), headed AS (
        UPDATE heads SET seq = x.seq, messages = x.messages, xid = pg_current_xact_id()
        FROM (SELECT y.dialog_id, max(y.seq) AS seq, max(y.messages) AS messages
              FROM numbered y WHERE y.code = 0 GROUP BY y.dialog_id) x
        WHERE heads.dialog_id = x.dialog_id
    ), wrote AS MATERIALIZED (
        SELECT x.dialog_id, x.device_id, max(x.n) AS n, bool_and(x.last_n IS NULL) AS first_time
        FROM numbered x WHERE x.code = 0 GROUP BY x.dialog_id, x.device_id
    ), counted AS (
        -- Nobody else touches these rows while the head is locked: an upsert's own lock would be a second one.
        UPDATE authors SET last_n = w.n FROM wrote w
        WHERE NOT w.first_time AND authors.dialog_id = w.dialog_id AND authors.device_id = w.device_id
    ), introduced AS (
        INSERT INTO authors (dialog_id, device_id, last_n)
        SELECT w.dialog_id, w.device_id, w.n FROM wrote w WHERE w.first_time
    )
    SELECT j.ord, j.code,
           CASE j.code WHEN 0 THEN j.seq WHEN 1 THEN j.d_seq ELSE 0 END,
           CASE j.code WHEN 1 THEN j.d_at_ms ELSE v_now_ms END,
           CASE j.code WHEN 0 THEN j.messages WHEN 1 THEN j.d_messages ELSE 0 END,
           coalesce(j.member_count, 0), coalesce(j.roster_seq, 0), coalesce(j.keys_seq, 0),
           j.code = 1 AND j.d_tag = 5
    FROM numbered j
    ORDER BY j.ord;
END $$;


-- One row of a timeline under a head that the caller has locked.
CREATE FUNCTION append_row(
    p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint,
    p_target bigint, p_body bytea, p_tag smallint, p_now_ms bigint
) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_head heads%ROWTYPE;
BEGIN
    UPDATE heads SET seq = seq + 1, xid = pg_current_xact_id() WHERE dialog_id = p_dialog RETURNING * INTO v_head;
    INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, target, at_ms, messages,
                         incarnation, flush_no, body)
    VALUES (p_dialog, v_head.seq, p_author, p_device, p_n, p_tag, p_target, p_now_ms, v_head.messages,
            p_incarnation, p_flush_no, p_body);
    IF p_n > 0 THEN
        INSERT INTO authors VALUES (p_dialog, p_device, p_n)
        ON CONFLICT (dialog_id, device_id) DO UPDATE SET last_n = excluded.last_n;
    END IF;
    RETURN v_head.seq;
END $$;


-- Whether these can be brought into a dialog by the author: 0, or the code of the refusal.
CREATE FUNCTION judge_subjects(p_tenant smallint, p_author uuid, p_subjects uuid[]) RETURNS smallint
LANGUAGE sql STABLE
AS $$
    SELECT (CASE
        WHEN (SELECT count(*) FROM principals p WHERE p.principal_id = ANY (p_subjects)
                 AND p.tenant_id = p_tenant AND p.status <> 3 AND p.type <> 4) < cardinality(p_subjects) THEN 10
        WHEN EXISTS (SELECT 1 FROM blocks b WHERE b.blocked_id = p_author AND b.blocker_id = ANY (p_subjects))
          OR EXISTS (SELECT 1 FROM blocks b WHERE b.blocker_id = p_author AND b.blocked_id = ANY (p_subjects)) THEN 7
        ELSE 0 END)::smallint
$$;


-- One change. Returns the verdict in every row, and a row per appended event (none: one row, no body).
-- `p_subjects` are distinct. For a creation they are all members, the author among them.
CREATE FUNCTION change(
    p_incarnation bigint, p_flush_no bigint, p_op smallint,
    p_dialog uuid, p_author uuid, p_device uuid, p_n bigint, p_body bytea,
    p_subjects uuid[], p_roles smallint[], p_target bigint, p_until_ms bigint,
    p_type smallint, p_mode smallint, p_admins_only boolean,
    p_name text, p_description text, p_avatar_url text,
    p_is_public boolean, p_allow_media boolean, p_retention_days int, p_moderation boolean,
    p_promoted_prefix bytea, p_erased bytea
) RETURNS TABLE (
    code smallint, seq bigint, at_ms bigint, messages bigint,
    member_count int, roster_seq bigint, keys_seq bigint, event_n bigint, body bytea
)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
    v_now_ms bigint := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
    v_code smallint := 0;
    v_head heads%ROWTYPE;
    v_rule dialog_types%ROWTYPE;
    v_author principals%ROWTYPE;
    v_me members%ROWTYPE;
    v_them members%ROWTYPE;
    v_first journal%ROWTYPE;
    v_heir uuid;
    v_seq bigint;
    v_heir_seq bigint;
    v_created boolean := false;
    v_told boolean;
BEGIN
    SELECT * INTO v_author FROM principals p WHERE p.principal_id = p_author;
    IF p_op = 10 THEN
        -- A concurrent creation of the same dialog makes this insert wait, then do nothing.
        SELECT * INTO v_rule FROM dialog_types t WHERE t.type = p_type;
        v_code := CASE
            WHEN v_author.status IS DISTINCT FROM 1 THEN 8
            WHEN cardinality(p_subjects) NOT BETWEEN v_rule.members_min AND v_rule.members_max THEN 11
            ELSE judge_subjects(v_author.tenant_id, p_author, p_subjects) END;
        IF v_code = 0 THEN
            INSERT INTO heads VALUES (p_dialog, v_author.tenant_id, p_type, p_mode, p_admins_only, 0, 0, 1, 0,
                cardinality(p_subjects), (SELECT count(*) FROM unnest(p_roles) r WHERE r = 1),
                pg_current_xact_id())
            ON CONFLICT DO NOTHING;
            v_created := FOUND;
        END IF;
    END IF;

    SELECT * INTO v_head FROM heads h WHERE h.dialog_id = p_dialog FOR NO KEY UPDATE;
    IF v_head.dialog_id IS NULL THEN
        RETURN QUERY SELECT CASE WHEN v_code <> 0 THEN v_code ELSE 5::smallint END, 0::bigint, v_now_ms, 0::bigint,
                            0, 0::bigint, 0::bigint, p_n, NULL::bytea;
        RETURN;
    END IF;
    SELECT * INTO v_rule FROM dialog_types t WHERE t.type = v_head.type;
    SELECT * INTO v_me FROM members m WHERE m.dialog_id = p_dialog AND m.principal_id = p_author;

    IF NOT v_created THEN
        -- Anew, under the lock: a first ack, if there was one, decides.
        IF p_n > 0 THEN
            SELECT * INTO v_first FROM journal j
            WHERE j.dialog_id = p_dialog AND j.device_id = p_device AND j.n = p_n;
        END IF;
        IF v_first.seq IS NULL AND p_op = 10 AND p_type IN (1, 2) AND v_me.member THEN
            SELECT * INTO v_first FROM journal j WHERE j.dialog_id = p_dialog AND j.seq = 1;
        ELSIF v_first.seq IS NOT NULL AND v_first.tag <> 5
              AND (v_first.body <> p_body OR v_first.author_id <> p_author) THEN
            v_code := 2;
        END IF;
        IF v_first.seq IS NOT NULL THEN
            -- Told again with the promotion of an heir that came of it; but not when it only stands for an answer
            -- (a dialog that was made by somebody else, or under another number, or a conflict).
            v_told := v_code <> 2 AND v_first.device_id = p_device AND v_first.n = p_n;
            RETURN QUERY
            SELECT CASE WHEN v_code = 2 THEN 2 ELSE 1 END::smallint, j.seq, j.at_ms, j.messages,
                v_head.member_count, v_head.roster_seq, v_head.keys_seq, j.n, CASE WHEN v_told THEN j.body END
            FROM journal j
            WHERE j.dialog_id = p_dialog AND (j.seq = v_first.seq
                OR (v_told AND v_first.tag IN (12, 13) AND j.seq = v_first.seq + 1 AND j.n = 0))
            ORDER BY j.seq;
            RETURN;
        END IF;

        IF p_op IN (11, 12, 14, 15) THEN
            SELECT * INTO v_them FROM members m WHERE m.dialog_id = p_dialog AND m.principal_id = p_subjects[1];
        END IF;
        v_code := CASE
            WHEN p_op = 10 THEN CASE WHEN v_code <> 0 THEN v_code ELSE 5 END
            WHEN v_author.tenant_id IS DISTINCT FROM v_head.tenant_id THEN 5
            WHEN v_me.member IS NOT TRUE AND NOT (
                p_op = 11 AND p_subjects = ARRAY[p_author]
                AND (SELECT d.is_public FROM dialogs d WHERE d.dialog_id = p_dialog)) THEN 5
            WHEN p_n > 0 AND p_n <= (SELECT a.last_n FROM authors a
                                     WHERE a.dialog_id = p_dialog AND a.device_id = p_device) THEN 3
            WHEN v_author.status <> 1 THEN 8
            WHEN p_op IN (11, 12, 13, 14, 15) AND v_rule.fixed_roster THEN 15
            WHEN p_op IN (11, 12, 14, 15, 16) AND v_me.member AND v_me.role <> 1
                 AND NOT (p_op = 11 AND p_subjects = ARRAY[p_author]) THEN 6
            WHEN p_op = 11 AND EXISTS (
                SELECT 1 FROM members m WHERE m.dialog_id = p_dialog
                    AND m.principal_id = ANY (p_subjects) AND m.member) THEN 12
            WHEN p_op = 11 AND v_head.member_count + cardinality(p_subjects) > v_rule.members_max THEN 11
            WHEN p_op = 11 THEN judge_subjects(v_head.tenant_id, p_author, p_subjects)
            WHEN p_op IN (12, 14, 15) AND v_them.member IS NOT TRUE THEN 13
            WHEN p_op = 12 AND p_subjects[1] = p_author THEN 13
            WHEN p_op = 15 AND v_them.role = 1 AND v_head.admin_count = 1 THEN 14
            WHEN p_op = 3 AND NOT EXISTS (
                SELECT 1 FROM journal j WHERE j.dialog_id = p_dialog AND j.seq = p_target AND j.tag = 1
                    AND v_me.visible @> j.seq AND (j.author_id = p_author OR v_me.role = 1)) THEN 9
            WHEN p_op = 20 AND NOT EXISTS (
                SELECT 1 FROM members m WHERE m.dialog_id = p_subjects[1]
                    AND m.principal_id = p_author AND m.member) THEN 5
            WHEN p_op IN (21, 22) AND (p_subjects[1] = p_author OR NOT EXISTS (
                SELECT 1 FROM principals p WHERE p.principal_id = p_subjects[1]
                    AND p.tenant_id = v_author.tenant_id)) THEN 10
            ELSE 0 END;
    END IF;
    IF v_code <> 0 THEN
        RETURN QUERY SELECT v_code, 0::bigint, v_now_ms, 0::bigint, v_head.member_count, v_head.roster_seq,
                            v_head.keys_seq, p_n, NULL::bytea;
        RETURN;
    END IF;

    v_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n, p_target, p_body,
                        p_op, v_now_ms);

    IF p_op = 10 THEN
        INSERT INTO dialogs VALUES (p_dialog, p_name, p_description, p_avatar_url, p_is_public, p_allow_media,
                                    p_retention_days, p_moderation, p_author, v_now_ms);
        INSERT INTO members (dialog_id, principal_id, role, member, visible, from_seq, joined_at_ms)
        SELECT p_dialog, s.principal_id, s.role, true, '{[1,)}', 1, v_now_ms
        FROM unnest(p_subjects, p_roles) AS s(principal_id, role);
    ELSIF p_op = 11 THEN
        INSERT INTO members (dialog_id, principal_id, role, member, visible, from_seq, joined_at_ms,
                             read, delivered, read_messages)
        SELECT p_dialog, s.principal_id, 0, true,
               int8multirange(int8range(CASE WHEN v_rule.full_history THEN 1 ELSE v_seq END, NULL)),
               v_seq, v_now_ms, v_seq, v_seq, v_head.messages
        FROM unnest(p_subjects) AS s(principal_id)
        ORDER BY s.principal_id
        ON CONFLICT (dialog_id, principal_id) DO UPDATE SET
            role = 0, member = true, visible = members.visible + excluded.visible, from_seq = excluded.from_seq,
            joined_at_ms = excluded.joined_at_ms, read = excluded.read, delivered = excluded.delivered,
            read_messages = excluded.read_messages, xid = pg_current_xact_id();
        UPDATE heads SET member_count = member_count + cardinality(p_subjects), roster_seq = v_seq
        WHERE dialog_id = p_dialog;
    ELSIF p_op IN (12, 13) THEN
        IF p_op = 13 AND v_head.admin_count = v_me.role THEN
            PERFORM 1 FROM members m WHERE m.dialog_id = p_dialog AND m.member
            ORDER BY m.principal_id FOR NO KEY UPDATE;
        END IF;
        UPDATE members m SET member = false, role = 0, xid = pg_current_xact_id(),
            visible = m.visible * int8multirange(int8range(NULL, v_seq, '(]'))
        WHERE m.dialog_id = p_dialog AND m.principal_id = (CASE WHEN p_op = 12 THEN p_subjects[1] ELSE p_author END);
        UPDATE heads SET member_count = member_count - 1, roster_seq = v_seq, keys_seq = v_seq,
            admin_count = admin_count - (CASE WHEN p_op = 12 THEN v_them.role ELSE v_me.role END)
        WHERE dialog_id = p_dialog RETURNING * INTO v_head;
        IF v_head.admin_count = 0 THEN
            SELECT m.principal_id INTO v_heir FROM members m WHERE m.dialog_id = p_dialog AND m.member
            ORDER BY m.joined_at_ms, m.principal_id LIMIT 1;
            IF v_heir IS NOT NULL THEN
                UPDATE members m SET role = 1, xid = pg_current_xact_id()
                WHERE m.dialog_id = p_dialog AND m.principal_id = v_heir;
                UPDATE heads SET admin_count = 1 WHERE dialog_id = p_dialog;
                v_heir_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, 0, NULL,
                                         p_promoted_prefix || uuid_send(v_heir), 14::smallint, v_now_ms);
            END IF;
        END IF;
    ELSIF p_op IN (14, 15) THEN
        UPDATE members m SET role = 15 - p_op, xid = pg_current_xact_id()
        WHERE m.dialog_id = p_dialog AND m.principal_id = p_subjects[1];
        UPDATE heads SET admin_count = admin_count + (15 - p_op) - v_them.role WHERE dialog_id = p_dialog;
    ELSIF p_op = 16 THEN
        UPDATE dialogs SET name = p_name, description = p_description, avatar_url = p_avatar_url,
            is_public = p_is_public, allow_media = p_allow_media, message_retention_days = p_retention_days,
            moderation_enabled = p_moderation
        WHERE dialog_id = p_dialog;
    ELSIF p_op = 3 THEN
        UPDATE journal j SET body = p_erased, tag = 5
        WHERE j.dialog_id = p_dialog AND j.seq = p_target;
        UPDATE journal j SET body = p_erased, tag = 5
        WHERE j.dialog_id = p_dialog AND j.target = p_target AND j.tag IN (2, 4);
    ELSIF p_op = 20 THEN
        UPDATE members m SET muted_until_ms = p_until_ms, xid = pg_current_xact_id()
        WHERE m.dialog_id = p_subjects[1] AND m.principal_id = p_author;
    ELSIF p_op = 21 THEN
        INSERT INTO blocks VALUES (p_subjects[1], p_author) ON CONFLICT DO NOTHING;
    ELSIF p_op = 22 THEN
        DELETE FROM blocks b WHERE b.blocked_id = p_subjects[1] AND b.blocker_id = p_author;
    END IF;

    RETURN QUERY
    SELECT 0::smallint, j.seq, j.at_ms, j.messages, h.member_count, h.roster_seq, h.keys_seq, j.n, j.body
    FROM journal j JOIN heads h ON h.dialog_id = j.dialog_id
    WHERE j.dialog_id = p_dialog AND j.seq BETWEEN v_seq AND coalesce(v_heir_seq, v_seq)
    ORDER BY j.seq;
END $$;


-- High-water marks that grew, as they are now. They never pass the dialog's head or another's sight.
CREATE FUNCTION mark(p_dialog uuid[], p_principal uuid[], p_delivered bigint[], p_read bigint[])
RETURNS TABLE (
    dialog_id uuid, principal_id uuid, delivered bigint, read bigint, read_messages bigint,
    receipts boolean, member_count int, roster_seq bigint
)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
BEGIN
    PERFORM 1 FROM members m
    JOIN unnest(p_dialog, p_principal) AS r(dialog_id, principal_id)
        ON m.dialog_id = r.dialog_id AND m.principal_id = r.principal_id
    ORDER BY m.dialog_id, m.principal_id FOR NO KEY UPDATE OF m;

    RETURN QUERY
    WITH r AS MATERIALIZED (
        SELECT r.dialog_id, r.principal_id, h.type, h.member_count, h.roster_seq,
               greatest(m.read, least(r.read, h.seq)) AS read,
               greatest(m.delivered, m.read, least(greatest(r.delivered, r.read), h.seq)) AS delivered,
               m.read AS old_read, m.delivered AS old_delivered
        FROM unnest(p_dialog, p_principal, p_delivered, p_read) AS r(dialog_id, principal_id, delivered, read)
        JOIN heads h ON h.dialog_id = r.dialog_id
        JOIN members m ON m.dialog_id = r.dialog_id AND m.principal_id = r.principal_id AND m.member
    ), grown AS (
        UPDATE members m SET read = r.read, delivered = r.delivered, xid = pg_current_xact_id(),
            read_messages = coalesce((SELECT j.messages FROM journal j
                                      WHERE j.dialog_id = r.dialog_id AND j.seq = r.read), m.read_messages)
        FROM r
        WHERE m.dialog_id = r.dialog_id AND m.principal_id = r.principal_id
          AND (r.read > r.old_read OR r.delivered > r.old_delivered)
        RETURNING m.dialog_id, m.principal_id, m.delivered, m.read, m.read_messages,
                  r.type, r.member_count, r.roster_seq
    ), noted AS (
        INSERT INTO mark_heads
        SELECT DISTINCT g.dialog_id, pg_current_xact_id() FROM grown g JOIN dialog_types t USING (type)
        WHERE t.receipts
        ORDER BY g.dialog_id
        ON CONFLICT (dialog_id) DO UPDATE SET xid = excluded.xid
    )
    SELECT g.dialog_id, g.principal_id, g.delivered, g.read, g.read_messages, t.receipts,
           g.member_count, g.roster_seq
    FROM grown g JOIN dialog_types t USING (type);
END $$;
