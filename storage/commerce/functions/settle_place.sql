-- Note what the chat has answered in a place, and give its lease back; false, and nothing noted, if another has it.
--
-- `p_outcome`, by number: TAKEN; REFUSED for ever, with a code; or PASSED: the number is used up, the version gets another
-- one, far above. What has no outcome keeps its number. The place is due after a pause if anything waits.
CREATE FUNCTION settle_place(
    p_place bigint, p_lease bigint, p_sealed boolean, p_n bigint[], p_outcome smallint[], p_code text[],
    p_pause_us bigint
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM FROM places p WHERE p.place_no = p_place AND p.lease = p_lease FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    UPDATE announcements a
    SET done = CASE WHEN o.outcome = ${Announced.TAKEN} THEN a.sent ELSE a.done END,
        admitted = a.admitted OR o.outcome = ${Announced.TAKEN},
        refused = CASE WHEN o.outcome = ${Announced.REFUSED} AND (a.version = a.sent OR NOT a.admitted) THEN o.code END,
        n = NULL,
        sent = NULL,
        expires_us = NULL
    FROM unnest(p_n, p_outcome, p_code) AS o(n, outcome, code)
    WHERE a.place_no = p_place AND a.n = o.n;
    UPDATE places p
    SET sealed = coalesce(p.sealed, p_sealed),
        last_n = p.last_n + CASE WHEN ${Announced.PASSED} = ANY (p_outcome) THEN ${NUMBERS_SKIPPED} ELSE 0 END,
        failures = CASE WHEN p_pause_us > 0 THEN p.failures + 1 ELSE 0 END,
        due_us = CASE WHEN EXISTS (SELECT 1 FROM announcements a
                                   WHERE a.place_no = p_place AND a.version > a.done AND a.refused IS NULL)
                      THEN clock_us() + p_pause_us END
    WHERE p.place_no = p_place;
    RETURN true;
END $$;
