-- The role of a member; null when that is no member.
CREATE FUNCTION role_of_member(p_dialog uuid, p_principal uuid) RETURNS smallint
LANGUAGE sql STABLE
AS $$
    SELECT m.role FROM members m WHERE m.dialog_id = p_dialog AND m.principal_id = p_principal AND m.member
$$;
