-- The first two locks of a batch: the period, and all keys in the order of their locks.
CREATE FUNCTION lock_keys(p_keys uuid[]) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM refuse_restored();
    PERFORM pg_advisory_xact_lock_shared(${PERIOD_LOCKS}, 0);
    PERFORM pg_advisory_xact_lock(x.lock)
    FROM (SELECT uuid_hash_extended(k, 0) AS lock FROM unnest(p_keys) k ORDER BY 1 OFFSET 0) x;
END $$;
