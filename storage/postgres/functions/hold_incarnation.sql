-- Let a node write only while its incarnation lives, and make who ends it wait for this transaction.
--
-- The first statement of everything that writes timelines, but of `flush`, which looks in statements that it makes
-- anyway and calls this for the refusal. Who ends an incarnation marks it, commits, then takes the
-- same lock exclusively: so either we see the mark here, in a snapshot taken after the lock, or they wait for our commit.
-- Somebody who holds the lock exclusively, or waits for it, has marked the incarnation before.
CREATE FUNCTION hold_incarnation(p_incarnation bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    IF pg_try_advisory_xact_lock_shared(${INCARNATION_LOCKS}, p_incarnation::int) THEN
        IF EXISTS (SELECT FROM incarnations i WHERE i.incarnation = p_incarnation AND i.ended_at_ms IS NULL) THEN
            RETURN;
        END IF;
    END IF;
    RAISE EXCEPTION 'incarnation % has ended', p_incarnation USING ERRCODE = '${INCARNATION_ENDED}';
END $$;
