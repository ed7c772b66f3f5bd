-- Wait until nothing of an incarnation that has ended runs any more, then note that it is fenced: it will never write again.
--
-- Raises lock_not_available when something still runs after a while: call again. See `hold_incarnation`.
CREATE FUNCTION fence_incarnation(p_incarnation bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
SET lock_timeout = '500ms'
AS $$
BEGIN
    PERFORM FROM incarnations i WHERE i.incarnation = p_incarnation AND i.ended_at_ms IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'incarnation % has not ended', p_incarnation;
    END IF;
    PERFORM pg_advisory_xact_lock(${INCARNATION_LOCKS}, p_incarnation::int);
    UPDATE incarnations SET fenced_at_ms = unix_ms(), fenced_xid = pg_current_xact_id()
    WHERE incarnation = p_incarnation AND fenced_at_ms IS NULL;
END $$;
