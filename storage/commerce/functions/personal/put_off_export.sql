-- Look at an export again only after a while: its next part could not be made.
CREATE FUNCTION put_off_export(p_export uuid, p_pause_us bigint) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    UPDATE exports e SET look_us = clock_us() + p_pause_us WHERE e.export_id = p_export AND e.look_us IS NOT NULL;
END $$;
