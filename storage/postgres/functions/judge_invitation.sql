-- Whether the author may invite that person, null if there is none, into the dialog, with a signature or without one: OK, or
-- the code of the refusal.
CREATE FUNCTION judge_invitation(p_dialog uuid, p_author uuid, p_invited uuid, p_signed boolean) RETURNS smallint
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    v_tenant smallint;
    v_fixed_roster boolean;
    v_deleted boolean;
    v_mode smallint;
    v_role smallint := role_of_member(p_dialog, p_author);
BEGIN
    SELECT h.tenant_id, t.fixed_roster, h.deleted, h.mode INTO v_tenant, v_fixed_roster, v_deleted, v_mode
    FROM heads h JOIN dialog_types t ON t.type = h.type WHERE h.dialog_id = p_dialog;
    RETURN CASE
        WHEN v_role IS NULL OR v_deleted THEN ${VerdictCode.NOT_FOUND}
        WHEN v_fixed_roster THEN ${VerdictCode.FIXED_ROSTER}
        WHEN v_role <> ${Role.ADMIN} THEN ${VerdictCode.ROLE_REQUIRED}
        WHEN p_invited IS NULL THEN ${VerdictCode.PRINCIPAL_NOT_FOUND}
        WHEN role_of_member(p_dialog, p_invited) IS NOT NULL THEN ${VerdictCode.ALREADY_MEMBER}
        WHEN v_mode = ${Mode.SEALED} AND NOT p_signed THEN ${VerdictCode.SIGNATURE_REQUIRED}
        ELSE judge_subjects(v_tenant, p_author, ARRAY[p_invited]) END;
END $$;
