-- Whether somebody can still be shown what has changed in a sealed dialog since event `p_seq`, of which they were invited.
CREATE FUNCTION is_roster_near(p_dialog uuid, p_seq bigint) RETURNS boolean
LANGUAGE sql STABLE STRICT
AS $$
    -- Of the intervals that have not ended there is one for each member; an event ends two others at most.
    SELECT count(DISTINCT c.seq) < ${ROSTER_EVENTS_MAX}
    FROM (SELECT x.from_seq, x.until_seq FROM roster_intervals x
          WHERE x.dialog_id = p_dialog AND x.until_seq > greatest(p_seq, 1)
          ORDER BY x.until_seq LIMIT ${SEALED_MEMBERS_MAX} + 2 * ${ROSTER_EVENTS_MAX}) r
    CROSS JOIN LATERAL (VALUES (r.from_seq), (r.until_seq)) AS c(seq)
    WHERE c.seq > greatest(p_seq, 1) AND c.seq < ${STILL}
$$;
