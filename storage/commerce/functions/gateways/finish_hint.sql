-- The object of a hint is fetched; the hint stays if it was noted again meanwhile.
CREATE FUNCTION finish_hint(p_gateway text, p_kind text, p_object text, p_noted int) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    DELETE FROM gateway_hints
    WHERE gateway = p_gateway AND kind = p_kind AND object_id = p_object AND noted = p_noted
$$;
