-- The tag that a row counts as: an edit or a reaction of an erased message is erased, whether it is blank yet or not.
CREATE FUNCTION effective_tag(p_dialog uuid, p_tag smallint, p_target bigint) RETURNS smallint
LANGUAGE sql STABLE
AS $$
    SELECT (CASE WHEN p_tag IN (${tag.Edited}, ${tag.Reacted}) AND EXISTS (
        SELECT 1 FROM journal t WHERE t.dialog_id = p_dialog AND t.seq = p_target AND t.tag = ${tag.Erased})
        THEN ${tag.Erased} ELSE p_tag END)::smallint
$$;
