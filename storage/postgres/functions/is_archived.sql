-- Whether an event that somebody may see is in the archive only (`trim_journal`).
CREATE FUNCTION is_archived(p_dialog uuid, p_seq bigint, p_visible int8multirange) RETURNS boolean
LANGUAGE sql STABLE
AS $$
    SELECT p_visible @> p_seq AND p_seq <= (SELECT h.seq FROM heads h WHERE h.dialog_id = p_dialog)
           AND NOT EXISTS (SELECT FROM journal j WHERE j.dialog_id = p_dialog AND j.seq = p_seq)
$$;
