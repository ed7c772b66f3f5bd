-- Whether somebody may join a dialog by themself: it is public, or an admin of it has invited them.
CREATE FUNCTION may_join(p_dialog uuid, p_principal uuid) RETURNS boolean
LANGUAGE sql STABLE
AS $$
    SELECT EXISTS (SELECT 1 FROM dialogs d WHERE d.dialog_id = p_dialog AND d.is_public)
        -- Subqueries, not joins, which a plan may begin with the members of the dialog: of all of them.
        OR EXISTS (
            SELECT 1 FROM invitations i
            WHERE i.principal_id = p_principal AND i.dialog_id = p_dialog AND NOT i.declined
              AND (SELECT m.member AND m.role = ${Role.ADMIN} FROM members m
                   WHERE m.dialog_id = i.dialog_id AND m.principal_id = i.invited_by)
              AND (SELECT p.status = ${PrincipalStatus.ACTIVE} FROM principals p
                   WHERE p.principal_id = i.invited_by))
$$;
