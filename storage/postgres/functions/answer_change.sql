-- The answer to a change: its rows, from `p_first_seq` to `p_last_seq` (null: the first only), with their bodies if
-- they are new or the caller repeats them. A refusal has no rows: one row with the verdict and the head (zeros if the
-- author may not know the dialog).
CREATE FUNCTION answer_change(
    p_dialog uuid, p_n bigint, p_code smallint, p_first_seq bigint, p_last_seq bigint, p_repeats boolean,
    p_now_ms bigint
) RETURNS SETOF change_row
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    IF p_first_seq IS NULL THEN
        RETURN QUERY
        SELECT p_code, 0::bigint, p_now_ms, 0::bigint, coalesce(h.member_count, 0), coalesce(h.roster_seq, 0),
               coalesce(h.keys_seq, 0), p_n, NULL::bytea
        FROM (SELECT CASE WHEN p_code <> ${VerdictCode.NOT_FOUND} THEN p_dialog END) AS asked(dialog_id)
        LEFT JOIN heads h ON h.dialog_id = asked.dialog_id;
    ELSE
        RETURN QUERY
        SELECT p_code, j.seq, j.at_ms, j.messages, h.member_count, h.roster_seq, h.keys_seq, j.n,
               CASE WHEN p_code = ${VerdictCode.OK} OR p_repeats THEN j.body END
        FROM journal j JOIN heads h ON h.dialog_id = j.dialog_id
        WHERE j.dialog_id = p_dialog AND j.seq BETWEEN p_first_seq AND coalesce(p_last_seq, p_first_seq)
        ORDER BY j.seq;
    END IF;
END $$;
