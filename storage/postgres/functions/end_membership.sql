-- End a membership with the event `p_seq`, the last that this member sees. The caller has locked the head.
CREATE FUNCTION end_membership(p_dialog uuid, p_principal uuid, p_role int, p_seq bigint) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    UPDATE members SET member = false, role = ${Role.MEMBER}, xid = pg_current_xact_id(),
        visible = visible * int8multirange(int8range(NULL, p_seq, '(]'))
    WHERE dialog_id = p_dialog AND principal_id = p_principal;
    UPDATE heads SET member_count = member_count - 1, roster_seq = p_seq, keys_seq = p_seq,
        admin_count = admin_count - (p_role = ${Role.ADMIN})::int
    WHERE dialog_id = p_dialog;
    -- One that was made while they joined would let them back in.
    DELETE FROM invitations WHERE dialog_id = p_dialog AND principal_id = p_principal;
$$;
