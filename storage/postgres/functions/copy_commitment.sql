-- Keep the commitment of a row that is about to be blanked, if its dialog is sealed and it has one: it can be reported for
-- some time from `p_erased_ms` on.
CREATE FUNCTION copy_commitment(p_dialog uuid, p_seq bigint, p_erased_ms bigint) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    INSERT INTO erased_commitments
    SELECT j.dialog_id, j.seq, j.author_id, j.device_id, j.n, j.tag,
           CASE WHEN j.tag <> ${tag.Posted} THEN j.target END, c.commitment, p_erased_ms + ${COMMITMENT_KEPT_MS}
    FROM heads h JOIN journal j ON j.dialog_id = h.dialog_id AND j.seq = p_seq
    CROSS JOIN LATERAL (SELECT commitment_of(j.body) AS commitment) c
    WHERE h.dialog_id = p_dialog AND h.mode = ${Mode.SEALED}
      AND j.tag IN (${tag.Posted}, ${tag.Edited}, ${tag.Reacted}) AND c.commitment IS NOT NULL
    ON CONFLICT DO NOTHING
$$;
