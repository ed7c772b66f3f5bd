-- Delete shares of a device with their slices. That they were handed stays noted.
CREATE FUNCTION drop_shares(p_device uuid, p_shares uuid[]) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    DELETE FROM shares WHERE device_id = p_device AND share_id = ANY (p_shares);
    DELETE FROM slices WHERE device_id = p_device AND share_id = ANY (p_shares);
$$;
