-- Delete live slices that their device has; a share goes with its last one.
--
-- It waits for no lock, so it makes no circle with those who lock a share and then its slices, and devices that confirm at
-- the same moment do not queue for their share. A slice that is locked is being deleted, or comes again; a share that is
-- locked stays until the sweep, as when two devices confirm the last two slices at the same moment.
CREATE FUNCTION confirm_slices(p_device uuid, p_numbers bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_gone slices[];
BEGIN
    WITH gone AS (
        DELETE FROM slices x WHERE x.ctid = ANY (ARRAY(
            SELECT s.ctid FROM slices s JOIN shares h ON h.device_id = s.device_id AND h.share_id = s.share_id AND h.live
            WHERE s.to_device = p_device AND s.number = ANY (p_numbers)
            FOR UPDATE OF s SKIP LOCKED))
        RETURNING x.*)
    SELECT array_agg(g::slices) INTO v_gone FROM gone g;
    DELETE FROM shares x WHERE x.ctid = ANY (ARRAY(
        SELECT h.ctid FROM shares h JOIN unnest(v_gone) AS g ON h.device_id = g.device_id AND h.share_id = g.share_id
        WHERE NOT EXISTS (SELECT FROM slices s WHERE s.device_id = h.device_id AND s.share_id = h.share_id)
        FOR UPDATE OF h SKIP LOCKED));
END $$;
