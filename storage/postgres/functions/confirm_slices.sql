-- Delete live slices that their device has; a share goes with its last one. When two devices confirm the last two at the
-- same moment, it stays until the sweep.
CREATE FUNCTION confirm_slices(p_device uuid, p_numbers bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_gone slices[];
BEGIN
    WITH gone AS (
        DELETE FROM slices s USING shares h
        WHERE s.to_device = p_device AND s.number = ANY (p_numbers)
          AND h.device_id = s.device_id AND h.share_id = s.share_id AND h.live
        RETURNING s.*)
    SELECT array_agg(g::slices) INTO v_gone FROM gone g;
    DELETE FROM shares h USING unnest(v_gone) AS g
    WHERE h.device_id = g.device_id AND h.share_id = g.share_id
      AND NOT EXISTS (SELECT FROM slices s WHERE s.device_id = h.device_id AND s.share_id = h.share_id);
END $$;
