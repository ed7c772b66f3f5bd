-- Put rows that the archive has back into the journal, where somebody needs them; those that are there stay as they are.
--
-- Their stamp is the lowest: they are archived, and no position lacks them. The caller has read them a moment ago and has
-- lived since (`hold_incarnation`); a row that was erased meanwhile comes back blank, and so does what hangs on it.
CREATE FUNCTION put_back_rows(
    p_incarnation bigint, p_now_ms bigint, p_dialog uuid[], p_seq bigint[], p_author uuid[], p_device uuid[], p_n bigint[],
    p_tag smallint[], p_target bigint[], p_at_ms bigint[], p_messages bigint[], p_body bytea[]
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM hold_incarnation(p_incarnation);
    LOCK TABLE archive_erasures IN ROW EXCLUSIVE MODE;
    INSERT INTO put_back
    SELECT r.dialog_id, r.seq, p_now_ms FROM unnest(p_dialog, p_seq) AS r(dialog_id, seq)
    JOIN dialogs d ON d.dialog_id = r.dialog_id  -- of a dialog that is being purged nothing comes back
    ORDER BY r.dialog_id, r.seq
    ON CONFLICT (dialog_id, seq) DO UPDATE SET at_ms = excluded.at_ms;
    WITH found AS MATERIALIZED (
        SELECT r.*, h.mode, x.gone
        FROM unnest(p_dialog, p_seq, p_author, p_device, p_n, p_tag, p_target, p_at_ms, p_messages, p_body)
            AS r(dialog_id, seq, author_id, device_id, n, tag, target, at_ms, messages, body)
        JOIN heads h ON h.dialog_id = r.dialog_id AND r.seq <= h.seq  -- after a restore the archive has later ones
        CROSS JOIN LATERAL (SELECT CASE WHEN r.tag IN (${tag.Edited}, ${tag.Reacted}) THEN r.target END) AS m(seq)
        JOIN dialogs d ON d.dialog_id = r.dialog_id
        CROSS JOIN LATERAL (SELECT
            EXISTS (SELECT FROM archive_erasures e WHERE e.dialog_id = r.dialog_id AND e.seq IN (r.seq, m.seq))
            OR EXISTS (SELECT FROM erasures e WHERE e.dialog_id = r.dialog_id AND e.target IN (r.seq, m.seq))
            OR EXISTS (SELECT FROM journal t WHERE t.dialog_id = r.dialog_id AND t.seq = m.seq AND t.tag = ${tag.Erased})
        ) AS x(gone)
    ), kept AS (
        INSERT INTO erased_commitments
        SELECT f.dialog_id, f.seq, f.author_id, f.device_id, f.n, f.tag, CASE WHEN f.tag <> ${tag.Posted} THEN f.target END,
               commitment_of(f.body), p_now_ms + ${COMMITMENT_KEPT_MS}
        FROM found f
        WHERE f.gone AND f.mode = ${Mode.SEALED} AND f.tag IN (${tag.Posted}, ${tag.Edited}, ${tag.Reacted})
          AND commitment_of(f.body) IS NOT NULL
        ON CONFLICT DO NOTHING
    )
    INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, target, at_ms, messages, incarnation, flush_no,
                         xid, body)
    SELECT f.dialog_id, f.seq, f.author_id, f.device_id, f.n, CASE WHEN f.gone THEN ${tag.Erased} ELSE f.tag END,
           f.target, f.at_ms, f.messages, p_incarnation, 0, '${LOWEST_XID}'::xid8,
           CASE WHEN f.gone THEN ${packed.Erased} ELSE f.body END
    FROM found f
    ORDER BY f.dialog_id, f.seq
    ON CONFLICT DO NOTHING;
END $$;
