-- Give a member another role. The caller has locked the head.
CREATE FUNCTION set_role(p_dialog uuid, p_principal uuid, p_old_role int, p_new_role int) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    UPDATE members SET role = p_new_role, xid = pg_current_xact_id()
    WHERE dialog_id = p_dialog AND principal_id = p_principal;
    UPDATE heads SET admin_count = admin_count + (p_new_role = ${Role.ADMIN})::int - (p_old_role = ${Role.ADMIN})::int
    WHERE dialog_id = p_dialog;
$$;
