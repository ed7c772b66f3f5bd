-- Whether somebody may write in a dialog now: OK, or the code of the refusal, as `flush` gives it to an author. What only an
-- envelope can lack, its keys and its number, is not looked at.
CREATE FUNCTION judge_writer(p_dialog uuid, p_principal uuid) RETURNS smallint
LANGUAGE sql STABLE
AS $$
    SELECT coalesce((
        SELECT CASE
            WHEN NOT m.member OR h.deleted OR p.tenant_id <> h.tenant_id THEN ${VerdictCode.NOT_FOUND}
            WHEN p.status <> ${PrincipalStatus.ACTIVE} THEN ${VerdictCode.SUSPENDED}
            WHEN h.admins_only AND m.role <> ${Role.ADMIN} THEN ${VerdictCode.ROLE_REQUIRED}
            WHEN h.type = ${DialogType.DIRECT} AND EXISTS (
                SELECT 1 FROM blocks b JOIN members o ON o.dialog_id = p_dialog AND o.principal_id = b.blocker_id
                WHERE b.blocked_id = p_principal) THEN ${VerdictCode.BLOCKED}
            ELSE ${VerdictCode.OK} END
        FROM members m, heads h, principals p
        WHERE m.dialog_id = p_dialog AND m.principal_id = p_principal
          AND h.dialog_id = p_dialog AND p.principal_id = p_principal
    ), ${VerdictCode.NOT_FOUND})::smallint
$$;
