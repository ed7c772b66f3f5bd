-- Who wrote the message with this number; null when that is no message, was erased, or is not among `p_visible`.
CREATE FUNCTION author_of_message(p_dialog uuid, p_seq bigint, p_visible int8multirange) RETURNS uuid
LANGUAGE sql STABLE
AS $$
    SELECT j.author_id FROM journal j
    WHERE j.dialog_id = p_dialog AND j.seq = p_seq AND j.tag = ${tag.Posted} AND p_visible @> j.seq
$$;
