--
-- PostgreSQL database dump
--


-- Dumped from database version 18.4
-- Dumped by pg_dump version 18.4

SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET transaction_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;

--
-- Name: append_row(bigint, bigint, uuid, uuid, uuid, bigint, bigint, bytea, smallint, bigint); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.append_row(p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint, p_target bigint, p_body bytea, p_tag smallint, p_now_ms bigint) RETURNS bigint
    LANGUAGE plpgsql
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


--
-- Name: audit_is_append_only(); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.audit_is_append_only() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF OLD.action LIKE 'sign_in.%'
           AND OLD.at_ms < (extract(epoch FROM clock_timestamp()) * 1000)::bigint - 365 * 86400000::bigint THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'the audit trail is append-only' USING ERRCODE = 'integrity_constraint_violation';
END $$;


--
-- Name: change(bigint, bigint, smallint, uuid, uuid, uuid, bigint, bytea, uuid[], smallint[], bigint, bigint, smallint, smallint, boolean, text, text, text, boolean, boolean, integer, boolean, bytea, bytea); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.change(p_incarnation bigint, p_flush_no bigint, p_op smallint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint, p_body bytea, p_subjects uuid[], p_roles smallint[], p_target bigint, p_until_ms bigint, p_type smallint, p_mode smallint, p_admins_only boolean, p_name text, p_description text, p_avatar_url text, p_is_public boolean, p_allow_media boolean, p_retention_days integer, p_moderation boolean, p_promoted_prefix bytea, p_erased bytea) RETURNS TABLE(code smallint, seq bigint, at_ms bigint, messages bigint, member_count integer, roster_seq bigint, keys_seq bigint, event_n bigint, body bytea)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET jit TO 'off'
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


--
-- Name: delete_person(bigint, uuid); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.delete_person(p_now_ms bigint, p_principal uuid) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_tenant smallint;
BEGIN
    UPDATE principals SET status = 3, deleted_at_ms = p_now_ms
    WHERE principal_id = p_principal AND status = 1 RETURNING tenant_id INTO v_tenant;
    IF v_tenant IS NULL THEN
        RETURN false;
    END IF;
    PERFORM end_sign_ins(p_now_ms, p_principal, NULL, NULL, 5::smallint, 'sign_in.ended');
    PERFORM note_audit(p_now_ms, v_tenant, 'person.deleted', p_principal, p_principal, NULL);
    RETURN true;
END $$;


--
-- Name: end_sign_ins(bigint, uuid, uuid[], uuid, smallint, text); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.end_sign_ins(p_now_ms bigint, p_principal uuid, p_these uuid[], p_except uuid, p_why smallint, p_action text) RETURNS uuid[]
    LANGUAGE sql
    AS $$
    WITH owner AS MATERIALIZED (
        SELECT principal_id FROM principals WHERE principal_id = p_principal FOR NO KEY UPDATE
    ), ended AS (
        UPDATE sign_ins s SET revoked_at_ms = p_now_ms, revoked_why = p_why
        WHERE s.principal_id = (SELECT principal_id FROM owner) AND s.revoked_at_ms IS NULL
          AND (p_these IS NULL OR s.sign_in_id = ANY (p_these)) AND s.sign_in_id IS DISTINCT FROM p_except
        RETURNING s.sign_in_id, s.tenant_id
    ), noted AS (
        INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id, sign_in_id)
        SELECT p_now_ms, tenant_id, p_action, p_principal, p_principal, sign_in_id FROM ended
    )
    SELECT coalesce(array_agg(sign_in_id), '{}') FROM ended
$$;


--
-- Name: flush(bigint, bigint, boolean, uuid[], uuid[], uuid[], bigint[], smallint[], bigint[], bigint[], bigint[], boolean[], bytea[]); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.flush(p_incarnation bigint, p_flush_no bigint, p_wait boolean, p_dialog uuid[], p_author uuid[], p_device uuid[], p_n bigint[], p_tag smallint[], p_target bigint[], p_keys_seq bigint[], p_expires_at_ms bigint[], p_counts boolean[], p_body bytea[]) RETURNS TABLE(ord bigint, code smallint, seq bigint, at_ms bigint, messages bigint, member_count integer, roster_seq bigint, keys_seq bigint, erased boolean)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET enable_bitmapscan TO 'off'
    SET jit TO 'off'
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


--
-- Name: judge_subjects(smallint, uuid, uuid[]); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.judge_subjects(p_tenant smallint, p_author uuid, p_subjects uuid[]) RETURNS smallint
    LANGUAGE sql STABLE
    AS $$
    SELECT (CASE
        WHEN (SELECT count(*) FROM principals p WHERE p.principal_id = ANY (p_subjects)
                 AND p.tenant_id = p_tenant AND p.status <> 3 AND p.type <> 4) < cardinality(p_subjects) THEN 10
        WHEN EXISTS (SELECT 1 FROM blocks b WHERE b.blocked_id = p_author AND b.blocker_id = ANY (p_subjects))
          OR EXISTS (SELECT 1 FROM blocks b WHERE b.blocker_id = p_author AND b.blocked_id = ANY (p_subjects)) THEN 7
        ELSE 0 END)::smallint
$$;


--
-- Name: mark(uuid[], uuid[], bigint[], bigint[]); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.mark(p_dialog uuid[], p_principal uuid[], p_delivered bigint[], p_read bigint[]) RETURNS TABLE(dialog_id uuid, principal_id uuid, delivered bigint, read bigint, read_messages bigint, receipts boolean, member_count integer, roster_seq bigint)
    LANGUAGE plpgsql
    SET enable_seqscan TO 'off'
    SET enable_hashjoin TO 'off'
    SET enable_mergejoin TO 'off'
    SET jit TO 'off'
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


--
-- Name: note_audit(bigint, smallint, text, uuid, uuid, uuid); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.note_audit(p_now_ms bigint, p_tenant smallint, p_action text, p_actor uuid, p_subject uuid, p_sign_in uuid) RETURNS void
    LANGUAGE sql
    AS $$
    INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id, sign_in_id)
    VALUES (p_now_ms, p_tenant, p_action, p_actor, p_subject, p_sign_in)
$$;


--
-- Name: open_sign_in(bigint, smallint, uuid, uuid, uuid, uuid, text, text, text, text, bigint, integer); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.open_sign_in(p_now_ms bigint, p_tenant smallint, p_principal uuid, p_sign_in uuid, p_device uuid, p_spare_device uuid, p_platform text, p_app_version text, p_device_name text, p_address text, p_expires_at_ms bigint, p_max integer, OUT device_id uuid, OUT crowded_out uuid[], OUT replaced uuid[]) RETURNS record
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
BEGIN
    crowded_out := '{}';
    INSERT INTO devices VALUES (p_device, p_principal, p_now_ms) ON CONFLICT DO NOTHING;
    SELECT d.device_id INTO device_id FROM devices d WHERE d.device_id = p_device AND d.principal_id = p_principal;
    IF device_id IS NULL AND p_spare_device IS NOT NULL THEN
        INSERT INTO devices VALUES (p_spare_device, p_principal, p_now_ms);
        device_id := p_spare_device;
    END IF;
    IF device_id IS NULL THEN
        RETURN;
    END IF;

    replaced := end_sign_ins(p_now_ms, p_principal, ARRAY(
        SELECT s.sign_in_id FROM sign_ins s
        WHERE s.principal_id = p_principal AND s.device_id = open_sign_in.device_id
    ), NULL, 4::smallint, 'sign_in.replaced');
    crowded_out := end_sign_ins(p_now_ms, p_principal, ARRAY(
        SELECT s.sign_in_id FROM sign_ins s
        WHERE s.principal_id = p_principal AND s.revoked_at_ms IS NULL
          AND (s.expires_at_ms IS NULL OR s.expires_at_ms > p_now_ms)
        ORDER BY s.created_at_ms DESC, s.sign_in_id DESC OFFSET p_max - 1
    ), NULL, 2::smallint, 'sign_in.crowded_out');

    INSERT INTO sign_ins (sign_in_id, principal_id, device_id, tenant_id, created_at_ms, last_used_at_ms, address,
                          expires_at_ms, platform, app_version, device_name)
    VALUES (p_sign_in, p_principal, device_id, p_tenant, p_now_ms, p_now_ms, p_address,
            p_expires_at_ms, p_platform, p_app_version, p_device_name);
    PERFORM note_audit(p_now_ms, p_tenant, 'sign_in.opened', p_principal, p_principal, p_sign_in);
END $$;


--
-- Name: purge_identity(bigint, bigint, bigint, bigint, integer); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.purge_identity(p_now_ms bigint, p_deleted_before_ms bigint, p_ended_before_ms bigint, p_audit_before_ms bigint, p_limit integer) RETURNS integer
    LANGUAGE plpgsql
    AS $$
DECLARE
    v_who uuid;
    v_purged int := 0;
BEGIN
    FOR v_who IN
        SELECT p.principal_id FROM principals p
        WHERE p.status = 3 AND p.deleted_at_ms <= p_deleted_before_ms
          AND EXISTS (SELECT 1 FROM people x WHERE x.principal_id = p.principal_id)
        ORDER BY p.deleted_at_ms LIMIT p_limit FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        PERFORM purge_person(p_now_ms, v_who);
        v_purged := v_purged + 1;
    END LOOP;
    DELETE FROM codes WHERE expires_at_ms <= p_now_ms;
    DELETE FROM sign_ins WHERE least(revoked_at_ms, expires_at_ms) <= p_ended_before_ms;
    DELETE FROM refresh_tokens WHERE used_at_ms <= p_ended_before_ms;
    DELETE FROM audit WHERE at_ms < p_audit_before_ms AND action LIKE 'sign_in.%';
    RETURN v_purged;
END $$;


--
-- Name: purge_person(bigint, uuid); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.purge_person(p_now_ms bigint, p_principal uuid) RETURNS void
    LANGUAGE sql
    AS $$
    DELETE FROM people WHERE principal_id = p_principal;
    DELETE FROM sign_ins WHERE principal_id = p_principal;
    DELETE FROM blocks WHERE blocker_id = p_principal;
    UPDATE principals SET external_id = NULL, admin = false WHERE principal_id = p_principal;
    INSERT INTO audit (at_ms, tenant_id, action, actor_id, subject_id)
    SELECT p_now_ms, tenant_id, 'person.purged', principal_id, principal_id
    FROM principals WHERE principal_id = p_principal;
$$;


--
-- Name: refresh_sign_in(bigint, bytea, bytea, text, bigint, bigint); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.refresh_sign_in(p_now_ms bigint, p_token_hash bytea, p_next_hash bytea, p_address text, p_expires_at_ms bigint, p_grace_ms bigint, OUT outcome smallint, OUT principal_id uuid, OUT device_id uuid, OUT sign_in_id uuid, OUT tenant_id smallint) RETURNS record
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
DECLARE
    v_token refresh_tokens%ROWTYPE;
    v_next refresh_tokens%ROWTYPE;
    v_sign_in sign_ins%ROWTYPE;
    v_status smallint;
BEGIN
    SELECT t.* INTO v_token FROM refresh_tokens t WHERE t.token_hash = p_token_hash FOR UPDATE;
    IF v_token.token_hash IS NULL THEN
        outcome := 7;
        RETURN;
    END IF;
    SELECT s.* INTO v_sign_in FROM sign_ins s WHERE s.sign_in_id = v_token.sign_in_id FOR NO KEY UPDATE;
    SELECT p.status INTO v_status FROM principals p WHERE p.principal_id = v_sign_in.principal_id;
    sign_in_id := v_sign_in.sign_in_id;
    principal_id := v_sign_in.principal_id;
    device_id := v_sign_in.device_id;
    tenant_id := v_sign_in.tenant_id;

    SELECT t.* INTO v_next FROM refresh_tokens t WHERE t.token_hash = p_next_hash;
    outcome := CASE
        WHEN v_sign_in.revoked_at_ms IS NOT NULL OR v_status = 3 THEN 5
        WHEN v_token.used_at_ms IS NOT NULL AND (
            v_next.token_hash IS NULL OR v_next.used_at_ms IS NOT NULL
            OR p_now_ms > v_token.used_at_ms + p_grace_ms) THEN 8
        WHEN v_sign_in.expires_at_ms <= p_now_ms THEN 9
        WHEN v_status = 2 THEN 4
        ELSE 1 END;
    IF outcome = 8 THEN
        UPDATE sign_ins s SET revoked_at_ms = p_now_ms, revoked_why = 3 WHERE s.sign_in_id = v_token.sign_in_id;
        PERFORM note_audit(p_now_ms, tenant_id, 'sign_in.token_reused', principal_id, principal_id, sign_in_id);
    ELSIF outcome = 1 AND v_token.used_at_ms IS NULL THEN
        UPDATE refresh_tokens t SET used_at_ms = p_now_ms WHERE t.token_hash = p_token_hash;
        INSERT INTO refresh_tokens VALUES (p_next_hash, v_token.sign_in_id, p_now_ms);
        UPDATE sign_ins s SET last_used_at_ms = p_now_ms, address = p_address, expires_at_ms = p_expires_at_ms
        WHERE s.sign_in_id = v_token.sign_in_id;
    END IF;
END $$;


--
-- Name: sign_in_by_code(bigint, smallint, bytea, bytea, bigint, uuid, text, bytea, text, text, text, text, uuid, uuid, uuid, text, text, text, text, bytea, bigint, integer); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.sign_in_by_code(p_now_ms bigint, p_tenant smallint, p_phone_hash bytea, p_code_hash bytea, p_deleted_before_ms bigint, p_principal uuid, p_phone_key text, p_phone_box bytea, p_country text, p_display_name text, p_locale text, p_timezone text, p_sign_in uuid, p_device uuid, p_spare_device uuid, p_platform text, p_app_version text, p_device_name text, p_address text, p_refresh_hash bytea, p_expires_at_ms bigint, p_max integer, OUT outcome smallint, OUT principal_id uuid, OUT device_id uuid, OUT crowded_out uuid[], OUT replaced uuid[]) RETURNS record
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
DECLARE
    v_who principals%ROWTYPE;
BEGIN
    -- Of several who come with the same code, the first consumes it; the others wait here, and find none.
    PERFORM 1 FROM codes c
    WHERE c.tenant_id = p_tenant AND c.phone_hash = p_phone_hash AND c.code_hash = p_code_hash
      AND c.expires_at_ms > p_now_ms
    FOR UPDATE;
    IF NOT FOUND THEN
        outcome := 2;
        RETURN;
    END IF;

    SELECT p.* INTO v_who FROM principals p JOIN people x ON x.principal_id = p.principal_id
    WHERE x.tenant_id = p_tenant AND x.phone_hash = p_phone_hash FOR NO KEY UPDATE OF p;
    IF v_who.status = 3 AND v_who.deleted_at_ms <= p_deleted_before_ms THEN
        PERFORM purge_person(p_now_ms, v_who.principal_id);
        v_who := NULL;
    END IF;

    IF v_who.principal_id IS NULL AND p_display_name IS NULL THEN
        UPDATE codes c SET attempts_left = c.attempts_left + 1
        WHERE c.tenant_id = p_tenant AND c.phone_hash = p_phone_hash;
        outcome := 3;
        RETURN;
    END IF;
    DELETE FROM codes c WHERE c.tenant_id = p_tenant AND c.phone_hash = p_phone_hash;

    outcome := 1;
    principal_id := coalesce(v_who.principal_id, p_principal);
    IF v_who.principal_id IS NULL THEN
        INSERT INTO principals (principal_id, tenant_id, type, created_at_ms)
        VALUES (p_principal, p_tenant, 1, p_now_ms);
        INSERT INTO people (principal_id, tenant_id, phone_hash, phone_key, phone_box, country,
                            display_name, locale, timezone, updated_at_ms)
        VALUES (p_principal, p_tenant, p_phone_hash, p_phone_key, p_phone_box, p_country,
                p_display_name, coalesce(p_locale, ''), coalesce(p_timezone, ''), p_now_ms);
        PERFORM note_audit(p_now_ms, p_tenant, 'person.created', p_principal, p_principal, NULL);
    ELSIF v_who.status = 2 THEN
        outcome := 4;
        RETURN;
    ELSIF v_who.status = 3 THEN
        UPDATE principals p SET status = 1, deleted_at_ms = NULL WHERE p.principal_id = v_who.principal_id;
        PERFORM note_audit(p_now_ms, p_tenant, 'person.restored', principal_id, principal_id, NULL);
    END IF;

    SELECT o.device_id, o.crowded_out, o.replaced INTO device_id, crowded_out, replaced
    FROM open_sign_in(p_now_ms, p_tenant, sign_in_by_code.principal_id, p_sign_in, p_device, p_spare_device,
                      p_platform, p_app_version, p_device_name, p_address, p_expires_at_ms, p_max) o;
    INSERT INTO refresh_tokens VALUES (p_refresh_hash, p_sign_in, p_now_ms);
END $$;


--
-- Name: sign_in_by_issuer(bigint, smallint, text, bigint, bigint, uuid, text, text, text, uuid, uuid, text, bigint, integer); Type: FUNCTION; Schema: public; Owner: -
--

CREATE FUNCTION public.sign_in_by_issuer(p_now_ms bigint, p_tenant smallint, p_external_id text, p_issued_at_ms bigint, p_deleted_before_ms bigint, p_principal uuid, p_display_name text, p_locale text, p_timezone text, p_sign_in uuid, p_device uuid, p_address text, p_expires_at_ms bigint, p_max integer, OUT outcome smallint, OUT principal_id uuid, OUT sign_in_id uuid, OUT opened boolean, OUT crowded_out uuid[]) RETURNS record
    LANGUAGE plpgsql
    AS $$
#variable_conflict use_column
DECLARE
    v_who principals%ROWTYPE;
    v_last sign_ins%ROWTYPE;
    v_device uuid;
BEGIN
    crowded_out := '{}';
    opened := false;
    SELECT p.* INTO v_who FROM principals p
    WHERE p.tenant_id = p_tenant AND p.external_id = p_external_id FOR NO KEY UPDATE;
    IF v_who.status = 3 AND v_who.deleted_at_ms <= p_deleted_before_ms THEN
        PERFORM purge_person(p_now_ms, v_who.principal_id);
        v_who := NULL;
    END IF;
    IF v_who.principal_id IS NULL THEN
        INSERT INTO principals (principal_id, tenant_id, type, external_id, created_at_ms)
        VALUES (p_principal, p_tenant, 1, p_external_id, p_now_ms) ON CONFLICT (tenant_id, external_id) DO NOTHING;
        IF FOUND THEN
            INSERT INTO people (principal_id, tenant_id, display_name, locale, timezone, updated_at_ms)
            VALUES (p_principal, p_tenant, p_display_name, p_locale, p_timezone, p_now_ms);
            PERFORM note_audit(p_now_ms, p_tenant, 'person.created', p_principal, p_principal, NULL);
        END IF;
        SELECT p.* INTO v_who FROM principals p
        WHERE p.tenant_id = p_tenant AND p.external_id = p_external_id FOR NO KEY UPDATE;
    END IF;
    principal_id := v_who.principal_id;
    IF v_who.status = 2 THEN
        outcome := 4;
        RETURN;
    END IF;

    -- A token made before the sign-in was ended, or the person deleted, does not bring it back; a newer one does.
    SELECT s.* INTO v_last FROM sign_ins s
    WHERE s.principal_id = v_who.principal_id AND s.device_id = p_device
    ORDER BY s.created_at_ms DESC, s.sign_in_id DESC LIMIT 1;
    IF p_issued_at_ms <= greatest(v_last.revoked_at_ms, v_who.deleted_at_ms) THEN
        outcome := 5;
        RETURN;
    END IF;
    IF v_who.status = 3 THEN
        UPDATE principals p SET status = 1, deleted_at_ms = NULL WHERE p.principal_id = v_who.principal_id;
        PERFORM note_audit(p_now_ms, p_tenant, 'person.restored', principal_id, principal_id, NULL);
    END IF;

    outcome := 1;
    IF v_last.revoked_at_ms IS NULL AND v_last.expires_at_ms > p_now_ms THEN
        UPDATE sign_ins s SET last_used_at_ms = p_now_ms, expires_at_ms = p_expires_at_ms,
            address = coalesce(nullif(p_address, ''), s.address)
        WHERE s.sign_in_id = v_last.sign_in_id;
        sign_in_id := v_last.sign_in_id;
        RETURN;
    END IF;
    SELECT o.device_id, o.crowded_out INTO v_device, crowded_out
    FROM open_sign_in(p_now_ms, p_tenant, v_who.principal_id, p_sign_in, p_device, NULL,
                      '', '', '', p_address, p_expires_at_ms, p_max) o;
    sign_in_id := p_sign_in;
    opened := true;
    IF v_device IS NULL THEN
        outcome := 6;
    END IF;
END $$;


SET default_tablespace = '';

SET default_table_access_method = heap;

--
-- Name: alembic_version; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);


--
-- Name: api_keys; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.api_keys (
    api_key_id uuid NOT NULL,
    principal_id uuid NOT NULL,
    key_hash bytea NOT NULL,
    kinds smallint[] NOT NULL,
    created_at_ms bigint NOT NULL
);


--
-- Name: audit; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.audit (
    audit_id bigint NOT NULL,
    at_ms bigint NOT NULL,
    tenant_id smallint NOT NULL,
    action text NOT NULL,
    actor_id uuid NOT NULL,
    subject_id uuid NOT NULL,
    sign_in_id uuid
);


--
-- Name: audit_audit_id_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.audit ALTER COLUMN audit_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.audit_audit_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: authors; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.authors (
    dialog_id uuid NOT NULL,
    device_id uuid NOT NULL,
    last_n bigint NOT NULL
)
WITH (fillfactor='50');


--
-- Name: blocks; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.blocks (
    blocked_id uuid NOT NULL,
    blocker_id uuid NOT NULL
);


--
-- Name: codes; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.codes (
    tenant_id smallint NOT NULL,
    phone_hash bytea NOT NULL,
    code_hash bytea NOT NULL,
    attempts_left integer NOT NULL,
    expires_at_ms bigint NOT NULL
);


--
-- Name: deployment; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.deployment (
    only_row boolean DEFAULT true NOT NULL,
    epoch bigint NOT NULL,
    CONSTRAINT deployment_only_row_check CHECK (only_row)
);


--
-- Name: devices; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.devices (
    device_id uuid NOT NULL,
    principal_id uuid NOT NULL,
    created_at_ms bigint NOT NULL
);


--
-- Name: dialog_types; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.dialog_types (
    type smallint NOT NULL,
    members_min integer NOT NULL,
    members_max integer NOT NULL,
    fixed_roster boolean NOT NULL,
    full_history boolean NOT NULL,
    receipts boolean NOT NULL
);


--
-- Name: dialogs; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.dialogs (
    dialog_id uuid NOT NULL,
    name text NOT NULL,
    description text NOT NULL,
    avatar_url text NOT NULL,
    is_public boolean NOT NULL,
    allow_media boolean NOT NULL,
    message_retention_days integer NOT NULL,
    moderation_enabled boolean NOT NULL,
    created_by uuid NOT NULL,
    created_at_ms bigint NOT NULL
);


--
-- Name: heads; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.heads (
    dialog_id uuid NOT NULL,
    tenant_id smallint NOT NULL,
    type smallint NOT NULL,
    mode smallint NOT NULL,
    admins_only boolean NOT NULL,
    seq bigint NOT NULL,
    messages bigint NOT NULL,
    roster_seq bigint NOT NULL,
    keys_seq bigint NOT NULL,
    member_count integer NOT NULL,
    admin_count integer NOT NULL,
    xid xid8 NOT NULL
)
WITH (fillfactor='50', autovacuum_vacuum_scale_factor='0.02');


--
-- Name: incarnations; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.incarnations (
    incarnation bigint NOT NULL,
    node text NOT NULL,
    started_at_ms bigint NOT NULL
);


--
-- Name: incarnations_incarnation_seq; Type: SEQUENCE; Schema: public; Owner: -
--

ALTER TABLE public.incarnations ALTER COLUMN incarnation ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.incarnations_incarnation_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);


--
-- Name: journal; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.journal (
    dialog_id uuid NOT NULL,
    seq bigint NOT NULL,
    author_id uuid NOT NULL,
    device_id uuid NOT NULL,
    n bigint NOT NULL,
    tag smallint NOT NULL,
    target bigint,
    at_ms bigint NOT NULL,
    messages bigint NOT NULL,
    expires_at_ms bigint,
    incarnation bigint NOT NULL,
    flush_no bigint NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL,
    body bytea NOT NULL
);
ALTER TABLE ONLY public.journal ALTER COLUMN body SET STORAGE EXTERNAL;


--
-- Name: mark_heads; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.mark_heads (
    dialog_id uuid NOT NULL,
    xid xid8 NOT NULL
)
WITH (fillfactor='50');


--
-- Name: members; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.members (
    dialog_id uuid NOT NULL,
    principal_id uuid NOT NULL,
    role smallint NOT NULL,
    member boolean NOT NULL,
    visible int8multirange NOT NULL,
    from_seq bigint NOT NULL,
    joined_at_ms bigint NOT NULL,
    muted_until_ms bigint DEFAULT 0 NOT NULL,
    delivered bigint DEFAULT 0 NOT NULL,
    read bigint DEFAULT 0 NOT NULL,
    read_messages bigint DEFAULT 0 NOT NULL,
    xid xid8 DEFAULT pg_current_xact_id() NOT NULL
)
WITH (fillfactor='80');


--
-- Name: people; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.people (
    principal_id uuid NOT NULL,
    tenant_id smallint NOT NULL,
    phone_hash bytea,
    phone_key text,
    phone_box bytea,
    country text DEFAULT ''::text NOT NULL,
    display_name text NOT NULL,
    avatar_url text DEFAULT ''::text NOT NULL,
    locale text NOT NULL,
    timezone text NOT NULL,
    findable boolean DEFAULT true NOT NULL,
    updated_at_ms bigint NOT NULL,
    CONSTRAINT people_avatar_url_check CHECK ((char_length(avatar_url) <= 2000)),
    CONSTRAINT people_check CHECK ((((phone_hash IS NULL) = (phone_box IS NULL)) AND ((phone_box IS NULL) = (phone_key IS NULL)))),
    CONSTRAINT people_display_name_check CHECK ((char_length(display_name) <= 100))
);


--
-- Name: principals; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.principals (
    principal_id uuid NOT NULL,
    tenant_id smallint NOT NULL,
    type smallint NOT NULL,
    status smallint DEFAULT 1 NOT NULL,
    admin boolean DEFAULT false NOT NULL,
    external_id text,
    created_at_ms bigint NOT NULL,
    deleted_at_ms bigint
);


--
-- Name: refresh_tokens; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.refresh_tokens (
    token_hash bytea NOT NULL,
    sign_in_id uuid NOT NULL,
    created_at_ms bigint NOT NULL,
    used_at_ms bigint
);


--
-- Name: services; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.services (
    principal_id uuid NOT NULL,
    name text NOT NULL,
    CONSTRAINT services_name_check CHECK (((char_length(name) >= 1) AND (char_length(name) <= 100)))
);


--
-- Name: sign_ins; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.sign_ins (
    sign_in_id uuid NOT NULL,
    principal_id uuid NOT NULL,
    device_id uuid NOT NULL,
    tenant_id smallint NOT NULL,
    created_at_ms bigint NOT NULL,
    last_used_at_ms bigint NOT NULL,
    address text DEFAULT ''::text NOT NULL,
    revoked_at_ms bigint,
    revoked_why smallint,
    expires_at_ms bigint,
    platform text DEFAULT ''::text NOT NULL,
    app_version text DEFAULT ''::text NOT NULL,
    device_name text DEFAULT ''::text NOT NULL
);


--
-- Name: tenants; Type: TABLE; Schema: public; Owner: -
--

CREATE TABLE public.tenants (
    tenant_id smallint NOT NULL,
    name text NOT NULL
);


--
-- Data for Name: alembic_version; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.alembic_version VALUES
	('0003');


--
-- Data for Name: api_keys; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: audit; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.audit OVERRIDING SYSTEM VALUE VALUES
	(1, 1790000000000, 1, 'person.created', '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', NULL),
	(2, 1790000000000, 1, 'sign_in.opened', '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-7a2b-8fb5-4161a00095af'),
	(3, 1790000000000, 1, 'person.created', '01a1fe9f-aeec-7b50-b982-9e4790f05c14', '01a1fe9f-aeec-7b50-b982-9e4790f05c14', NULL),
	(4, 1790000000000, 1, 'sign_in.opened', '01a1fe9f-aeec-7b50-b982-9e4790f05c14', '01a1fe9f-aeec-7b50-b982-9e4790f05c14', '01a1fe9f-aeec-7e8d-8ddd-4cd2214515ef'),
	(5, 1790000000000, 1, 'person.created', '01a1fe9f-aeef-7bf6-ae2f-3d85d8607ce0', '01a1fe9f-aeef-7bf6-ae2f-3d85d8607ce0', NULL),
	(6, 1790000000000, 1, 'sign_in.opened', '01a1fe9f-aeef-7bf6-ae2f-3d85d8607ce0', '01a1fe9f-aeef-7bf6-ae2f-3d85d8607ce0', '01a1fe9f-aeee-7764-84a1-507e8f396042'),
	(7, 1790000000000, 1, 'person.created', '01a1fe9f-aef2-7544-bd44-876a07bba20d', '01a1fe9f-aef2-7544-bd44-876a07bba20d', NULL),
	(8, 1790000000000, 1, 'sign_in.opened', '01a1fe9f-aef2-7544-bd44-876a07bba20d', '01a1fe9f-aef2-7544-bd44-876a07bba20d', '01a1fe9f-aef1-7eb1-beaf-5aa30bfdf869'),
	(9, 1790000000002, 1, 'sign_in.ended', '01a1fe9f-aeef-7bf6-ae2f-3d85d8607ce0', '01a1fe9f-aeef-7bf6-ae2f-3d85d8607ce0', '01a1fe9f-aeee-7764-84a1-507e8f396042');


--
-- Data for Name: authors; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.authors VALUES
	('5a6e7e96-7dbf-8824-bbfa-9ca3f68e413d', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 5),
	('5a6e7e96-7dbf-8824-bbfa-9ca3f68e413d', '01a1fe9f-aeec-7d1b-8ed6-923f795d918d', 1),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', '01a1fe9f-aeee-723b-b41b-0529d3426092', 2),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', '01a1fe9f-aeec-7d1b-8ed6-923f795d918d', 3),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 11),
	('ed9764c4-1668-8838-8fe2-268b6f2ea8b2', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 12),
	('ed9764c4-1668-8838-8fe2-268b6f2ea8b2', '01a1fe9f-aef1-7d85-980e-fa312e170155', 1),
	('e156578c-8b0e-8ee2-9a0d-6e416cb4c190', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 16);


--
-- Data for Name: blocks; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.blocks VALUES
	('01a1fe9f-aeef-7bf6-ae2f-3d85d8607ce0', '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f');


--
-- Data for Name: codes; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: deployment; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.deployment VALUES
	(true, 1795273240205);


--
-- Data for Name: devices; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.devices VALUES
	('01a1fe9f-aed9-714d-be2a-8ad20f7503ba', '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', 1790000000000),
	('01a1fe9f-aeec-7d1b-8ed6-923f795d918d', '01a1fe9f-aeec-7b50-b982-9e4790f05c14', 1790000000000),
	('01a1fe9f-aeee-723b-b41b-0529d3426092', '01a1fe9f-aeef-7bf6-ae2f-3d85d8607ce0', 1790000000000),
	('01a1fe9f-aef1-7d85-980e-fa312e170155', '01a1fe9f-aef2-7544-bd44-876a07bba20d', 1790000000000);


--
-- Data for Name: dialog_types; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.dialog_types VALUES
	(1, 1, 1, true, true, false),
	(2, 2, 2, true, true, true),
	(3, 3, 1000, false, false, true),
	(4, 1, 100000, false, true, false);


--
-- Data for Name: dialogs; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.dialogs VALUES
	('e156578c-8b0e-8ee2-9a0d-6e416cb4c190', 'name', '', '', false, true, 0, false, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', 1795273240316),
	('5a6e7e96-7dbf-8824-bbfa-9ca3f68e413d', 'name', '', '', false, true, 0, false, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', 1795273240321),
	('ed9764c4-1668-8838-8fe2-268b6f2ea8b2', 'name', '', '', true, true, 0, false, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', 1795273240323),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', 'team', 'the team', '', false, true, 30, false, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', 1795273240322);


--
-- Data for Name: heads; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.heads VALUES
	('5a6e7e96-7dbf-8824-bbfa-9ca3f68e413d', 1, 2, 1, false, 3, 2, 1, 0, 2, 0, '773'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', 1, 3, 2, false, 11, 2, 9, 9, 3, 2, '783'),
	('ed9764c4-1668-8838-8fe2-268b6f2ea8b2', 1, 4, 2, true, 3, 1, 3, 0, 2, 1, '785'),
	('e156578c-8b0e-8ee2-9a0d-6e416cb4c190', 1, 1, 2, false, 5, 0, 1, 0, 1, 0, '789');


--
-- Data for Name: incarnations; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.incarnations OVERRIDING SYSTEM VALUE VALUES
	(1, 'test', 1795273240279);


--
-- Data for Name: journal; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.journal VALUES
	('e156578c-8b0e-8ee2-9a0d-6e416cb4c190', 1, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 1, 10, NULL, 1795273240316, 0, NULL, 1, 1, '768', '\x980a0102a46e616d65a0a094c2c300c29192c41001a1fe9faeda7bc9a8e4e983da4e8c9f00'),
	('5a6e7e96-7dbf-8824-bbfa-9ca3f68e413d', 1, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 2, 10, NULL, 1795273240321, 0, NULL, 1, 2, '769', '\x980a0201a46e616d65a0a094c2c300c29292c41001a1fe9faeda7bc9a8e4e983da4e8c9f0092c41001a1fe9faeec7b50b9829e4790f05c1400'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', 1, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 3, 10, NULL, 1795273240322, 0, NULL, 1, 3, '770', '\x980a0302a46e616d65a0a094c2c300c29392c41001a1fe9faeda7bc9a8e4e983da4e8c9f0192c41001a1fe9faeec7b50b9829e4790f05c140092c41001a1fe9faeef7bf6ae2f3d85d8607ce000'),
	('ed9764c4-1668-8838-8fe2-268b6f2ea8b2', 1, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 4, 10, NULL, 1795273240323, 0, NULL, 1, 4, '771', '\x980a0402a46e616d65a0a094c3c300c29192c41001a1fe9faeda7bc9a8e4e983da4e8c9f01'),
	('5a6e7e96-7dbf-8824-bbfa-9ca3f68e413d', 2, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 5, 1, NULL, 1795273240331, 1, NULL, 1, 5, '772', '\x95010196a0c0c0c000c0c40a7365616c6564206f6e65c0'),
	('5a6e7e96-7dbf-8824-bbfa-9ca3f68e413d', 3, '01a1fe9f-aeec-7b50-b982-9e4790f05c14', '01a1fe9f-aeec-7d1b-8ed6-923f795d918d', 1, 1, NULL, 1795273240335, 2, NULL, 1, 6, '773', '\x95010196a0c0c0c000c0c40a7365616c65642074776fc0'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', 2, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 6, 1, NULL, 1795273240338, 1, NULL, 1, 7, '774', '\x95010196a0c0c0c000c0c40968656c6c6f20616c6cc0'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', 4, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 7, 2, 2, 1795273240342, 2, NULL, 1, 9, '776', '\x940202c40f68656c6c6f206576657279626f647996a0c0c0c000c0'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', 5, '01a1fe9f-aeef-7bf6-ae2f-3d85d8607ce0', '01a1fe9f-aeee-723b-b41b-0529d3426092', 1, 4, 2, 1795273240344, 2, NULL, 1, 10, '777', '\x930402c4022b31'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', 7, '01a1fe9f-aeec-7b50-b982-9e4790f05c14', '01a1fe9f-aeec-7d1b-8ed6-923f795d918d', 3, 3, 3, 1795273240350, 2, NULL, 1, 12, '779', '\x920303'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', 3, '01a1fe9f-aeec-7b50-b982-9e4790f05c14', '01a1fe9f-aeec-7d1b-8ed6-923f795d918d', 2, 5, NULL, 1795273240340, 2, NULL, 1, 8, '775', '\x9105'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', 6, '01a1fe9f-aeef-7bf6-ae2f-3d85d8607ce0', '01a1fe9f-aeee-723b-b41b-0529d3426092', 2, 5, 3, 1795273240347, 2, NULL, 1, 11, '778', '\x9105'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', 8, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 8, 11, NULL, 1795273240352, 2, NULL, 1, 13, '780', '\x920b91c41001a1fe9faef27544bd44876a07bba20d'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', 9, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 9, 12, NULL, 1795273240354, 2, NULL, 1, 14, '781', '\x920cc41001a1fe9faeef7bf6ae2f3d85d8607ce0'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', 10, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 10, 14, NULL, 1795273240355, 2, NULL, 1, 15, '782', '\x920ec41001a1fe9faeec7b50b9829e4790f05c14'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', 11, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 11, 16, NULL, 1795273240356, 2, NULL, 1, 16, '783', '\x9510a47465616da8746865207465616da094c2c31ec2'),
	('ed9764c4-1668-8838-8fe2-268b6f2ea8b2', 2, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 12, 1, NULL, 1795273240357, 1, NULL, 1, 17, '784', '\x95010196a0c0c0c000c0c4046e657773c0'),
	('ed9764c4-1668-8838-8fe2-268b6f2ea8b2', 3, '01a1fe9f-aef2-7544-bd44-876a07bba20d', '01a1fe9f-aef1-7d85-980e-fa312e170155', 1, 11, NULL, 1795273240359, 1, NULL, 1, 18, '785', '\x920b91c41001a1fe9faef27544bd44876a07bba20d'),
	('e156578c-8b0e-8ee2-9a0d-6e416cb4c190', 2, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 13, 21, NULL, 1795273240361, 0, NULL, 1, 19, '786', '\x9215c41001a1fe9faeef7bf6ae2f3d85d8607ce0'),
	('e156578c-8b0e-8ee2-9a0d-6e416cb4c190', 3, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 14, 21, NULL, 1795273240362, 0, NULL, 1, 20, '787', '\x9215c41001a1fe9faef27544bd44876a07bba20d'),
	('e156578c-8b0e-8ee2-9a0d-6e416cb4c190', 4, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 15, 22, NULL, 1795273240363, 0, NULL, 1, 21, '788', '\x9216c41001a1fe9faef27544bd44876a07bba20d'),
	('e156578c-8b0e-8ee2-9a0d-6e416cb4c190', 5, '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 16, 20, NULL, 1795273240364, 0, NULL, 1, 22, '789', '\x9314c410ed9764c4166888388fe2268b6f2ea8b24d');


--
-- Data for Name: mark_heads; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.mark_heads VALUES
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', '790'),
	('5a6e7e96-7dbf-8824-bbfa-9ca3f68e413d', '790');


--
-- Data for Name: members; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.members VALUES
	('e156578c-8b0e-8ee2-9a0d-6e416cb4c190', '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', 0, true, '{[1,)}', 1, 1795273240316, 0, 0, 0, 0, '768'),
	('5a6e7e96-7dbf-8824-bbfa-9ca3f68e413d', '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', 0, true, '{[1,)}', 1, 1795273240321, 0, 0, 0, 0, '769'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', 1, true, '{[1,)}', 1, 1795273240322, 0, 0, 0, 0, '770'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', '01a1fe9f-aef2-7544-bd44-876a07bba20d', 0, true, '{[8,)}', 8, 1795273240352, 0, 8, 8, 2, '780'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', '01a1fe9f-aeef-7bf6-ae2f-3d85d8607ce0', 0, false, '{[1,10)}', 1, 1795273240322, 0, 0, 0, 0, '781'),
	('ed9764c4-1668-8838-8fe2-268b6f2ea8b2', '01a1fe9f-aef2-7544-bd44-876a07bba20d', 0, true, '{[1,)}', 3, 1795273240359, 0, 3, 3, 1, '785'),
	('ed9764c4-1668-8838-8fe2-268b6f2ea8b2', '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', 1, true, '{[1,)}', 1, 1795273240323, 77, 0, 0, 0, '789'),
	('5a6e7e96-7dbf-8824-bbfa-9ca3f68e413d', '01a1fe9f-aeec-7b50-b982-9e4790f05c14', 0, true, '{[1,)}', 1, 1795273240321, 0, 2, 2, 1, '790'),
	('0a5e90f3-f1f2-8334-9cc0-d5555570e09e', '01a1fe9f-aeec-7b50-b982-9e4790f05c14', 1, true, '{[1,)}', 1, 1795273240322, 0, 5, 4, 2, '790');


--
-- Data for Name: people; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.people VALUES
	('01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', 1, '\x0101010101010101010101010101010101010101010101010101010101010101', 'key-1', '\x010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101010101', 'DE', 'Ann', '', 'en', 'UTC', true, 1790000000000),
	('01a1fe9f-aeec-7b50-b982-9e4790f05c14', 1, '\x0202020202020202020202020202020202020202020202020202020202020202', 'key-1', '\x020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202020202', 'DE', 'Bo', '', 'en', 'UTC', true, 1790000000000),
	('01a1fe9f-aeef-7bf6-ae2f-3d85d8607ce0', 1, '\x0303030303030303030303030303030303030303030303030303030303030303', 'key-1', '\x030303030303030303030303030303030303030303030303030303030303030303030303030303030303030303030303030303030303030303030303', 'DE', 'Cy', '', 'en', 'UTC', true, 1790000000000),
	('01a1fe9f-aef2-7544-bd44-876a07bba20d', 1, '\x0404040404040404040404040404040404040404040404040404040404040404', 'key-1', '\x040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404040404', 'DE', 'Di', '', 'en', 'UTC', true, 1790000000000);


--
-- Data for Name: principals; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.principals VALUES
	('01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', 1, 1, 1, false, NULL, 1790000000000, NULL),
	('01a1fe9f-aeec-7b50-b982-9e4790f05c14', 1, 1, 1, false, NULL, 1790000000000, NULL),
	('01a1fe9f-aeef-7bf6-ae2f-3d85d8607ce0', 1, 1, 1, false, NULL, 1790000000000, NULL),
	('01a1fe9f-aef2-7544-bd44-876a07bba20d', 1, 1, 1, false, NULL, 1790000000000, NULL);


--
-- Data for Name: refresh_tokens; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.refresh_tokens VALUES
	('\x6666666666666666666666666666666666666666666666666666666666666666', '01a1fe9f-aeec-7e8d-8ddd-4cd2214515ef', 1790000000000, NULL),
	('\x6767676767676767676767676767676767676767676767676767676767676767', '01a1fe9f-aeee-7764-84a1-507e8f396042', 1790000000000, NULL),
	('\x6868686868686868686868686868686868686868686868686868686868686868', '01a1fe9f-aef1-7eb1-beaf-5aa30bfdf869', 1790000000000, NULL),
	('\x6565656565656565656565656565656565656565656565656565656565656565', '01a1fe9f-aed9-7a2b-8fb5-4161a00095af', 1790000000000, 1790000000001),
	('\x6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f6f', '01a1fe9f-aed9-7a2b-8fb5-4161a00095af', 1790000000001, NULL);


--
-- Data for Name: services; Type: TABLE DATA; Schema: public; Owner: -
--



--
-- Data for Name: sign_ins; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.sign_ins VALUES
	('01a1fe9f-aeec-7e8d-8ddd-4cd2214515ef', '01a1fe9f-aeec-7b50-b982-9e4790f05c14', '01a1fe9f-aeec-7d1b-8ed6-923f795d918d', 1, 1790000000000, 1790000000000, '192.0.2.1', NULL, NULL, 2790000000000, 'android', '1.0', 'Bo''s phone'),
	('01a1fe9f-aef1-7eb1-beaf-5aa30bfdf869', '01a1fe9f-aef2-7544-bd44-876a07bba20d', '01a1fe9f-aef1-7d85-980e-fa312e170155', 1, 1790000000000, 1790000000000, '192.0.2.1', NULL, NULL, 2790000000000, 'android', '1.0', 'Di''s phone'),
	('01a1fe9f-aed9-7a2b-8fb5-4161a00095af', '01a1fe9f-aeda-7bc9-a8e4-e983da4e8c9f', '01a1fe9f-aed9-714d-be2a-8ad20f7503ba', 1, 1790000000000, 1790000000001, '192.0.2.2', NULL, NULL, 2790000000000, 'android', '1.0', 'Ann''s phone'),
	('01a1fe9f-aeee-7764-84a1-507e8f396042', '01a1fe9f-aeef-7bf6-ae2f-3d85d8607ce0', '01a1fe9f-aeee-723b-b41b-0529d3426092', 1, 1790000000000, 1790000000000, '192.0.2.1', 1790000000002, 1, 2790000000000, 'android', '1.0', 'Cy''s phone');


--
-- Data for Name: tenants; Type: TABLE DATA; Schema: public; Owner: -
--

INSERT INTO public.tenants VALUES
	(1, 'default');


--
-- Name: audit_audit_id_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.audit_audit_id_seq', 9, true);


--
-- Name: incarnations_incarnation_seq; Type: SEQUENCE SET; Schema: public; Owner: -
--

SELECT pg_catalog.setval('public.incarnations_incarnation_seq', 1, true);


--
-- Name: alembic_version alembic_version_pkc; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);


--
-- Name: api_keys api_keys_key_hash_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_key_hash_key UNIQUE (key_hash);


--
-- Name: api_keys api_keys_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (api_key_id);


--
-- Name: audit audit_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.audit
    ADD CONSTRAINT audit_pkey PRIMARY KEY (audit_id);


--
-- Name: authors authors_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.authors
    ADD CONSTRAINT authors_pkey PRIMARY KEY (dialog_id, device_id);


--
-- Name: blocks blocks_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.blocks
    ADD CONSTRAINT blocks_pkey PRIMARY KEY (blocked_id, blocker_id);


--
-- Name: codes codes_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.codes
    ADD CONSTRAINT codes_pkey PRIMARY KEY (tenant_id, phone_hash);


--
-- Name: deployment deployment_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.deployment
    ADD CONSTRAINT deployment_pkey PRIMARY KEY (only_row);


--
-- Name: devices devices_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.devices
    ADD CONSTRAINT devices_pkey PRIMARY KEY (device_id);


--
-- Name: dialog_types dialog_types_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.dialog_types
    ADD CONSTRAINT dialog_types_pkey PRIMARY KEY (type);


--
-- Name: dialogs dialogs_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.dialogs
    ADD CONSTRAINT dialogs_pkey PRIMARY KEY (dialog_id);


--
-- Name: heads heads_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.heads
    ADD CONSTRAINT heads_pkey PRIMARY KEY (dialog_id);


--
-- Name: incarnations incarnations_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.incarnations
    ADD CONSTRAINT incarnations_pkey PRIMARY KEY (incarnation);


--
-- Name: journal journal_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.journal
    ADD CONSTRAINT journal_pkey PRIMARY KEY (dialog_id, seq);


--
-- Name: mark_heads mark_heads_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.mark_heads
    ADD CONSTRAINT mark_heads_pkey PRIMARY KEY (dialog_id);


--
-- Name: members members_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.members
    ADD CONSTRAINT members_pkey PRIMARY KEY (dialog_id, principal_id);


--
-- Name: people people_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.people
    ADD CONSTRAINT people_pkey PRIMARY KEY (principal_id);


--
-- Name: people people_tenant_id_phone_hash_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.people
    ADD CONSTRAINT people_tenant_id_phone_hash_key UNIQUE (tenant_id, phone_hash);


--
-- Name: principals principals_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.principals
    ADD CONSTRAINT principals_pkey PRIMARY KEY (principal_id);


--
-- Name: principals principals_tenant_id_external_id_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.principals
    ADD CONSTRAINT principals_tenant_id_external_id_key UNIQUE (tenant_id, external_id);


--
-- Name: refresh_tokens refresh_tokens_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.refresh_tokens
    ADD CONSTRAINT refresh_tokens_pkey PRIMARY KEY (token_hash);


--
-- Name: services services_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.services
    ADD CONSTRAINT services_pkey PRIMARY KEY (principal_id);


--
-- Name: sign_ins sign_ins_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sign_ins
    ADD CONSTRAINT sign_ins_pkey PRIMARY KEY (sign_in_id);


--
-- Name: tenants tenants_name_key; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT tenants_name_key UNIQUE (name);


--
-- Name: tenants tenants_pkey; Type: CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.tenants
    ADD CONSTRAINT tenants_pkey PRIMARY KEY (tenant_id);


--
-- Name: audit_by_time; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX audit_by_time ON public.audit USING btree (at_ms);


--
-- Name: audit_of_subject; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX audit_of_subject ON public.audit USING btree (subject_id, audit_id);


--
-- Name: journal_of_author; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX journal_of_author ON public.journal USING btree (dialog_id, device_id, n);


--
-- Name: journal_of_settings; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX journal_of_settings ON public.journal USING btree (dialog_id, seq) WHERE (tag = ANY (ARRAY[10, 16]));


--
-- Name: journal_of_target; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX journal_of_target ON public.journal USING btree (dialog_id, target) WHERE (tag = ANY (ARRAY[2, 3, 4]));


--
-- Name: members_of_principal; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX members_of_principal ON public.members USING btree (principal_id, dialog_id);


--
-- Name: principals_deleted; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX principals_deleted ON public.principals USING btree (deleted_at_ms) WHERE (status = 3);


--
-- Name: refresh_tokens_of_sign_in; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX refresh_tokens_of_sign_in ON public.refresh_tokens USING btree (sign_in_id);


--
-- Name: refresh_tokens_used; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX refresh_tokens_used ON public.refresh_tokens USING btree (used_at_ms) WHERE (used_at_ms IS NOT NULL);


--
-- Name: sign_ins_ended; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX sign_ins_ended ON public.sign_ins USING btree (LEAST(revoked_at_ms, expires_at_ms));


--
-- Name: sign_ins_of_principal; Type: INDEX; Schema: public; Owner: -
--

CREATE INDEX sign_ins_of_principal ON public.sign_ins USING btree (principal_id, created_at_ms);


--
-- Name: audit audit_keeps_all; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER audit_keeps_all BEFORE TRUNCATE ON public.audit FOR EACH STATEMENT EXECUTE FUNCTION public.audit_is_append_only();


--
-- Name: audit audit_keeps_lines; Type: TRIGGER; Schema: public; Owner: -
--

CREATE TRIGGER audit_keeps_lines BEFORE DELETE OR UPDATE ON public.audit FOR EACH ROW EXECUTE FUNCTION public.audit_is_append_only();


--
-- Name: api_keys api_keys_api_key_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_api_key_id_fkey FOREIGN KEY (api_key_id) REFERENCES public.devices(device_id);


--
-- Name: api_keys api_keys_principal_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_principal_id_fkey FOREIGN KEY (principal_id) REFERENCES public.services(principal_id) ON DELETE CASCADE;


--
-- Name: devices devices_principal_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.devices
    ADD CONSTRAINT devices_principal_id_fkey FOREIGN KEY (principal_id) REFERENCES public.principals(principal_id);


--
-- Name: people people_principal_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.people
    ADD CONSTRAINT people_principal_id_fkey FOREIGN KEY (principal_id) REFERENCES public.principals(principal_id) ON DELETE CASCADE;


--
-- Name: principals principals_tenant_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.principals
    ADD CONSTRAINT principals_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES public.tenants(tenant_id);


--
-- Name: refresh_tokens refresh_tokens_sign_in_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.refresh_tokens
    ADD CONSTRAINT refresh_tokens_sign_in_id_fkey FOREIGN KEY (sign_in_id) REFERENCES public.sign_ins(sign_in_id) ON DELETE CASCADE;


--
-- Name: services services_principal_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.services
    ADD CONSTRAINT services_principal_id_fkey FOREIGN KEY (principal_id) REFERENCES public.principals(principal_id) ON DELETE CASCADE;


--
-- Name: sign_ins sign_ins_principal_id_fkey; Type: FK CONSTRAINT; Schema: public; Owner: -
--

ALTER TABLE ONLY public.sign_ins
    ADD CONSTRAINT sign_ins_principal_id_fkey FOREIGN KEY (principal_id) REFERENCES public.principals(principal_id) ON DELETE CASCADE;


--
-- PostgreSQL database dump complete
--


