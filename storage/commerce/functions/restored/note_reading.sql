-- Note how far a tenant's reading of what was told has come: behind a dialog, or (null) to the end.
CREATE FUNCTION note_reading(p_tenant smallint, p_after uuid) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    UPDATE readings r
    SET after_dialog = greatest(r.after_dialog, p_after), done_us = CASE WHEN p_after IS NULL THEN clock_us() END
    FROM book_history h
    WHERE r.tenant_id = p_tenant AND r.done_us IS NULL AND h.noticed_us = r.noticed_us
$$;
