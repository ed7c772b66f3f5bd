-- Those of the dialogs that their authors may know: has been a member of, or as a service writes in. `flush` locks no
-- other. It is a plain query, which PostgreSQL puts in the place of the call.
CREATE FUNCTION known_dialogs(p_dialog uuid[], p_author uuid[]) RETURNS SETOF uuid
LANGUAGE sql STABLE
AS $$
    -- Scalar subqueries, not EXISTS, which a plan may answer by reading a whole table once.
    SELECT u.dialog_id FROM unnest(p_dialog, p_author) AS u(dialog_id, author_id)
    WHERE CASE WHEN (SELECT true FROM members m
                     WHERE m.dialog_id = u.dialog_id AND m.principal_id = u.author_id) THEN true
               ELSE (SELECT p.type = ${PrincipalType.SERVICE} FROM principals p
                     WHERE p.principal_id = u.author_id) END
$$;
