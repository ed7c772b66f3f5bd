-- Delete live slices that their devices have; a share goes with its last one. Each number is that of a slice, and of the
-- device that has it.
--
-- It waits for no lock, so it makes no circle with those who lock a share and then its slices, and devices that confirm at
-- the same moment do not queue for their share. A slice that is locked is being deleted, or comes again; a share that is
-- locked stays until the sweep, as when the last two slices are confirmed at the same moment at two nodes.
CREATE FUNCTION confirm_slices(p_devices uuid[], p_numbers bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_devices uuid[];
    v_shares uuid[];
BEGIN
    WITH gone AS (
        DELETE FROM slices x WHERE x.ctid = ANY (ARRAY(
            SELECT s.ctid FROM unnest(p_devices, p_numbers) AS c(device_id, number)
            JOIN slices s ON s.to_device = c.device_id AND s.number = c.number
            JOIN shares h ON h.device_id = s.device_id AND h.share_id = s.share_id AND h.live
            FOR UPDATE OF s SKIP LOCKED))
        RETURNING x.device_id, x.share_id)
    SELECT array_agg(g.device_id), array_agg(g.share_id) INTO v_devices, v_shares
    FROM (SELECT DISTINCT device_id, share_id FROM gone) g;
    DELETE FROM shares x WHERE x.ctid = ANY (ARRAY(
        SELECT h.ctid FROM unnest(v_devices, v_shares) AS g(device_id, share_id)
        JOIN shares h ON h.device_id = g.device_id AND h.share_id = g.share_id
        WHERE NOT EXISTS (SELECT FROM slices s WHERE s.device_id = h.device_id AND s.share_id = h.share_id)
        FOR UPDATE OF h SKIP LOCKED));
END $$;
