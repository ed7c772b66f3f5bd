-- Content: judge, number and append a batch of rows, one verdict for each.
--
-- One call in autocommit, so that its fate never waits for the node. It locks heads first and judges *then*: in READ
-- COMMITTED every statement of a VOLATILE function takes a new snapshot, so the verdicts see all that was committed by
-- the holder of the lock before.
--
-- `p_tag`, `p_target`, `p_keys_seq`, `p_expires_at_ms`, `p_counts`, `p_session`, `p_share` and `p_requester` may be null
-- instead of as long as the batch: then they are Posted, null, 0, null, true, null, null and null in every row, as in many
-- batches. (An array, also an empty one, costs what it takes to begin with: PL/pgSQL unpacks it.)
--
-- A dialog that no author of its rows has ever been a member of is not locked, nor is any of its rows read: for a
-- stranger a dialog that exists costs what one costs that does not, and a refusal writes nothing.
--
-- In a sealed dialog what has a `p_keys_seq` is accepted if its `p_session` is the one that its device last shared there,
-- at the present `keys_seq`; or if `p_share` is a complete share of the session at that `keys_seq`, which becomes live with
-- it. No flush waits for who uploads: a share that is locked is not complete. Only under its dialog's head a flush locks a
-- share: else one that leaves a busy dialog out would have another refuse as stale what it stores itself, later.
--
-- The stamp of a row (`xid`) is never below that of the head: a flush that got its transaction id early, and waited for
-- a head, appends after a transaction with a higher id. Within a dialog stamps rise, so what a position lacks is a suffix.
CREATE FUNCTION flush(
    p_incarnation bigint, p_flush_no bigint, p_wait boolean,
    p_dialog uuid[], p_author uuid[], p_device uuid[], p_n bigint[], p_tag smallint[], p_target bigint[],
    p_keys_seq bigint[], p_expires_at_ms bigint[], p_counts boolean[], p_body bytea[],
    p_session bytea[], p_share uuid[], p_requester uuid[]
) RETURNS TABLE (
    ord bigint, code smallint, seq bigint, at_ms bigint, messages bigint,
    member_count int, roster_seq bigint, keys_seq bigint, erased boolean
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_lives boolean := pg_try_advisory_xact_lock_shared(${INCARNATION_LOCKS}, p_incarnation::int);
    v_may_write boolean;
    v_locked uuid[];
    v_now_ms bigint;
    v_sharing bigint[];  -- the rows whose share is complete, and that of their session, dialog and `keys_seq`
BEGIN
    -- The incarnation's lock is held since the declaration; whether it has ended, or this call was overtaken, is read
    -- after that, in the statement that locks heads. That is `hold_incarnation`, without the 20 us of a call and the
    -- 15 us of a statement.
    IF p_wait THEN
        SELECT (SELECT i.ended_at_ms IS NULL AND p_flush_no > i.overtaken
                FROM incarnations i WHERE i.incarnation = p_incarnation),
               array_agg(x.dialog_id)
        INTO v_may_write, v_locked FROM (
            SELECT h.dialog_id FROM heads h
            WHERE h.dialog_id = ANY (ARRAY(SELECT k FROM known_dialogs(p_dialog, p_author) k))
            ORDER BY h.dialog_id FOR NO KEY UPDATE) x;
    ELSE
        SELECT (SELECT i.ended_at_ms IS NULL AND p_flush_no > i.overtaken
                FROM incarnations i WHERE i.incarnation = p_incarnation),
               array_agg(x.dialog_id)
        INTO v_may_write, v_locked FROM (
            SELECT h.dialog_id FROM heads h
            WHERE h.dialog_id = ANY (ARRAY(SELECT k FROM known_dialogs(p_dialog, p_author) k))
            ORDER BY h.dialog_id FOR NO KEY UPDATE SKIP LOCKED) x;
    END IF;
    IF p_wait AND v_may_write THEN  -- the node may have given this call up while it waited
        v_may_write := (SELECT p_flush_no > i.overtaken FROM incarnations i WHERE i.incarnation = p_incarnation);
    END IF;
    IF (v_lives AND v_may_write) IS NOT TRUE THEN
        PERFORM hold_incarnation(p_incarnation, p_flush_no);  -- which refuses
    END IF;
    v_now_ms := unix_ms();
    IF p_share IS NOT NULL THEN
        v_sharing := ARRAY(
            SELECT r.ord FROM unnest(p_dialog, p_device, p_session, p_share) WITH ORDINALITY
                AS r(dialog_id, device_id, session, share_id, ord)
            JOIN shares s ON s.device_id = r.device_id AND s.share_id = r.share_id
                AND s.dialog_id = r.dialog_id AND s.session = r.session
            JOIN heads h ON h.dialog_id = r.dialog_id AND h.keys_seq = s.keys_seq
            WHERE h.dialog_id = ANY (v_locked) AND s.covered IS NOT NULL AND NOT s.live
            FOR NO KEY UPDATE OF s SKIP LOCKED);
    END IF;

    RETURN QUERY
    WITH r AS (
        SELECT u.ord, u.dialog_id, u.author_id, u.device_id, u.n, coalesce(u.tag, ${tag.Posted}::smallint) AS tag,
               u.target, CASE WHEN p_keys_seq IS NULL THEN 0 ELSE u.keys_seq END AS keys_seq, u.expires_at_ms,
               coalesce(u.counts, true) AS counts, u.body
        FROM unnest(p_dialog, p_author, p_device, p_n, p_tag, p_target, p_keys_seq, p_expires_at_ms, p_counts, p_body)
            WITH ORDINALITY
            AS u(dialog_id, author_id, device_id, n, tag, target, keys_seq, expires_at_ms, counts, body, ord)
    ), judged AS NOT MATERIALIZED (  -- its OFFSET keeps the verdict from being computed once for each use, for less
        SELECT r.ord, r.dialog_id, r.author_id, r.device_id, r.n, r.tag, r.target, r.expires_at_ms,
               r.counts, r.body,
               h.seq AS h_seq, h.messages AS h_messages, h.member_count, h.roster_seq, h.keys_seq, h.xid AS h_xid, a.last_n,
               d.seq AS d_seq, d.at_ms AS d_at_ms, d.messages AS d_messages, d.tag AS d_tag,
               (CASE
                    WHEN h.dialog_id IS NULL THEN
                        CASE WHEN (m.dialog_id IS NOT NULL OR p.type = ${PrincipalType.SERVICE})
                              AND (SELECT true FROM heads x WHERE x.dialog_id = r.dialog_id)
                             THEN ${VerdictCode.BUSY} ELSE ${VerdictCode.NOT_FOUND} END
                    WHEN d.seq IS NOT NULL THEN
                        CASE WHEN d.tag = ${tag.Erased} OR (d.tag = r.tag AND d.author_id = r.author_id
                                                AND d.target IS NOT DISTINCT FROM r.target
                                                AND d.body = r.body)
                             THEN ${VerdictCode.DUPLICATE} ELSE ${VerdictCode.CONFLICT} END
                    WHEN p.principal_id IS NULL OR p.tenant_id <> h.tenant_id OR h.deleted
                        THEN ${VerdictCode.NOT_FOUND}
                    WHEN m.member IS NOT TRUE AND p.type <> ${PrincipalType.SERVICE} THEN ${VerdictCode.NOT_FOUND}
                    WHEN r.n <= a.last_n THEN ${VerdictCode.NUMBER_PASSED}
                    WHEN p.status <> ${PrincipalStatus.ACTIVE} THEN ${VerdictCode.SUSPENDED}
                    WHEN h.admins_only AND p.type <> ${PrincipalType.SERVICE} AND m.role <> ${Role.ADMIN}
                        THEN ${VerdictCode.ROLE_REQUIRED}
                    WHEN h.type = ${DialogType.DIRECT} AND EXISTS (
                        SELECT 1 FROM blocks b JOIN members o
                            ON o.dialog_id = r.dialog_id AND o.principal_id = b.blocker_id
                        WHERE b.blocked_id = r.author_id) THEN ${VerdictCode.BLOCKED}
                    WHEN h.mode = ${Mode.SEALED} AND r.keys_seq IS NOT NULL AND (
                        r.keys_seq = h.keys_seq AND (r.ord = ANY (v_sharing) OR (
                            a.session = p_session[r.ord] AND a.shared_keys_seq = h.keys_seq))) IS NOT TRUE
                        THEN CASE WHEN p_session[r.ord] IS NULL THEN ${VerdictCode.NOT_SEALED}
                                  ELSE ${VerdictCode.STALE} END
                    WHEN r.target <= h.seq AND t.seq IS NULL AND m.visible @> r.target THEN refuse_archived()
                    WHEN r.target IS NOT NULL AND (
                        t.seq IS NULL OR t.tag <> ${tag.Posted} OR m.visible @> t.seq IS NOT TRUE
                        OR (r.tag = ${tag.Edited} AND t.author_id <> r.author_id)) THEN ${VerdictCode.EVENT_NOT_FOUND}
                    WHEN p_requester[r.ord] IS NOT NULL THEN judge_writer(r.dialog_id, p_requester[r.ord])
                    ELSE ${VerdictCode.OK}
                END)::smallint AS code
        FROM r
        LEFT JOIN heads h ON h.dialog_id = CASE WHEN r.dialog_id = ANY (v_locked) THEN r.dialog_id END
        LEFT JOIN authors a ON a.dialog_id = r.dialog_id AND a.device_id = r.device_id
        LEFT JOIN members m ON m.dialog_id = r.dialog_id AND m.principal_id = r.author_id
        LEFT JOIN principals p ON p.principal_id = r.author_id
        LEFT JOIN journal t ON t.dialog_id = r.dialog_id AND t.seq = CASE WHEN h.dialog_id IS NOT NULL THEN r.target END
        LEFT JOIN LATERAL (
            SELECT j.seq, j.at_ms, j.messages, effective_tag(j.dialog_id, j.tag, j.target) AS tag, j.target, j.author_id,
                   j.body
            FROM journal j
            WHERE r.n <= a.last_n AND j.dialog_id = r.dialog_id AND j.device_id = r.device_id AND j.n = r.n
            LIMIT 1) d ON true
        OFFSET 0
    ), numbered AS MATERIALIZED (
        SELECT j.*,
               j.h_seq + count(*) FILTER (WHERE j.code = ${VerdictCode.OK}) OVER in_order AS seq,
               j.h_messages + count(*) FILTER (WHERE j.code = ${VerdictCode.OK} AND j.counts) OVER in_order AS messages
        FROM judged j
        WINDOW in_order AS (PARTITION BY j.dialog_id ORDER BY j.ord ROWS UNBOUNDED PRECEDING)
    ), appended AS (
        INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, target, at_ms, messages,
                             expires_at_ms, incarnation, flush_no, body, xid)
        SELECT x.dialog_id, x.seq, x.author_id, x.device_id, x.n, x.tag, x.target, v_now_ms, x.messages,
               x.expires_at_ms, p_incarnation, p_flush_no, x.body, greatest(pg_current_xact_id(), x.h_xid)
        FROM numbered x WHERE x.code = ${VerdictCode.OK}
    ), headed AS (
        UPDATE heads SET seq = x.seq, messages = x.messages, xid = greatest(pg_current_xact_id(), heads.xid)
        FROM (SELECT y.dialog_id, max(y.seq) AS seq, max(y.messages) AS messages
              FROM numbered y WHERE y.code = ${VerdictCode.OK} GROUP BY y.dialog_id) x
        WHERE heads.dialog_id = x.dialog_id
    ), wrote AS MATERIALIZED (
        SELECT x.dialog_id, x.device_id, max(x.n) AS n, bool_and(x.last_n IS NULL) AS first_time
        FROM numbered x WHERE x.code = ${VerdictCode.OK} GROUP BY x.dialog_id, x.device_id
    ), counted AS (
        -- No other transaction changes these rows while the head is locked: an upsert would lock them a second time.
        UPDATE authors SET last_n = w.n FROM wrote w
        WHERE NOT w.first_time AND authors.dialog_id = w.dialog_id AND authors.device_id = w.device_id
    ), introduced AS (
        INSERT INTO authors (dialog_id, device_id, last_n)
        SELECT w.dialog_id, w.device_id, w.n FROM wrote w WHERE w.first_time
    )
    SELECT j.ord, j.code,
           CASE j.code WHEN ${VerdictCode.OK} THEN j.seq WHEN ${VerdictCode.DUPLICATE} THEN j.d_seq ELSE 0 END,
           CASE j.code WHEN ${VerdictCode.DUPLICATE} THEN j.d_at_ms ELSE v_now_ms END,
           CASE j.code WHEN ${VerdictCode.OK} THEN j.messages
                       WHEN ${VerdictCode.DUPLICATE} THEN j.d_messages ELSE 0 END,
           CASE j.code WHEN ${VerdictCode.NOT_FOUND} THEN 0 ELSE coalesce(j.member_count, 0) END,
           CASE j.code WHEN ${VerdictCode.NOT_FOUND} THEN 0 ELSE coalesce(j.roster_seq, 0) END,
           CASE j.code WHEN ${VerdictCode.NOT_FOUND} THEN 0 ELSE coalesce(j.keys_seq, 0) END,
           j.code = ${VerdictCode.DUPLICATE} AND j.d_tag = ${tag.Erased}
    FROM numbered j
    ORDER BY j.ord;

    IF cardinality(v_sharing) > 0 THEN
        WITH named AS MATERIALIZED (
            SELECT s.device_id, s.share_id, s.dialog_id, s.session, s.keys_seq, s.covered, j.n
            FROM unnest(p_dialog, p_device, p_n, p_share) WITH ORDINALITY AS r(dialog_id, device_id, n, share_id, ord)
            JOIN shares s ON s.device_id = r.device_id AND s.share_id = r.share_id
            JOIN journal j ON j.dialog_id = r.dialog_id AND j.device_id = r.device_id AND j.n = r.n
                AND j.incarnation = p_incarnation AND j.flush_no = p_flush_no
            WHERE r.ord = ANY (v_sharing)
        ), made_live AS (
            UPDATE shares s SET live = true FROM named x WHERE s.device_id = x.device_id AND s.share_id = x.share_id
        )
        UPDATE authors a
        SET session = x.session, shared_keys_seq = x.keys_seq, covered = x.covered, share = x.share_id
        FROM (SELECT DISTINCT ON (y.dialog_id, y.device_id) y.* FROM named y ORDER BY y.dialog_id, y.device_id, y.n DESC) x
        WHERE a.dialog_id = x.dialog_id AND a.device_id = x.device_id;
    END IF;
END $$;
