-- The gateways whose changes since the restore was noticed are not all read: what they have done since the backup may be
-- missing in the books.
CREATE FUNCTION gateways_behind() RETURNS text[]
LANGUAGE plpgsql STABLE
AS $$
BEGIN
    IF to_regclass('gateway_cursors') IS NULL THEN
        RETURN '{}';
    END IF;
    RETURN (SELECT coalesce(array_agg(c.gateway ORDER BY c.gateway), '{}')
            FROM gateway_cursors c JOIN book_history h ON c.read_ms < h.noticed_us / 1000);
END $$;
