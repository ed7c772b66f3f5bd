-- Let a node write only while its incarnation lives, and make who ends it wait for this transaction.
--
-- The first statement of everything that writes timelines, but of `flush`, which looks in statements that it makes
-- anyway and calls this for the refusal. Who ends an incarnation marks it, commits, then takes the
-- same lock exclusively: so either we see the mark here, in a snapshot taken after the lock, or they wait for our commit.
-- Somebody who holds the lock exclusively, or waits for it, has marked the incarnation before.
--
-- With a `p_flush_no` also refuse a call that the node gave up and has overtaken (`Journal.overtake`): it may arrive when
-- its repetition has been refused for good.
CREATE FUNCTION hold_incarnation(p_incarnation bigint, p_flush_no bigint DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_overtaken bigint;
BEGIN
    IF pg_try_advisory_xact_lock_shared(${INCARNATION_LOCKS}, p_incarnation::int) THEN
        SELECT i.overtaken INTO v_overtaken
        FROM incarnations i WHERE i.incarnation = p_incarnation AND i.ended_at_ms IS NULL;
        IF p_flush_no <= v_overtaken THEN
            RAISE EXCEPTION 'call % was overtaken', p_flush_no USING ERRCODE = '${CALL_OVERTAKEN}';
        ELSIF FOUND THEN
            RETURN;
        END IF;
    END IF;
    RAISE EXCEPTION 'incarnation % has ended', p_incarnation USING ERRCODE = '${INCARNATION_ENDED}';
END $$;
