-- End a flush of which a row is about an event that is in the archive only: nothing of it is written. The caller finds
-- out which rows these are, and flushes the others.
CREATE FUNCTION refuse_archived() RETURNS smallint
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    RAISE EXCEPTION 'the target of a row is archived' USING ERRCODE = '${TARGET_ARCHIVED}';
END $$;
