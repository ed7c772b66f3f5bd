-- Mark an incarnation as ended if its lease still stands at `p_lease` (null: however it stands); returns whether it has ended.
--
-- The lease's row is locked: the node that renews it at this moment either comes first, and lives on, or learns next time
-- that it has ended. Who waits for what the incarnation left running (`fence_incarnation`) does so in another transaction:
-- the mark must be visible to everybody before.
CREATE FUNCTION end_incarnation(p_incarnation bigint, p_lease bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    IF p_lease IS NULL OR coalesce((SELECT l.lease FROM leases l WHERE l.incarnation = p_incarnation FOR UPDATE), 0) = p_lease THEN
        UPDATE incarnations SET ended_at_ms = unix_ms() WHERE incarnation = p_incarnation AND ended_at_ms IS NULL;
    END IF;
    RETURN EXISTS (SELECT FROM incarnations i WHERE i.incarnation = p_incarnation AND i.ended_at_ms IS NOT NULL);
END $$;
