-- Whether a command about a payment may be passed on to commerce: OK, or the code of the refusal. It is noted under the
-- number, and the same command is answered the same.
--
-- `p_people_only`: only a person may do it. `p_parties`: who takes part in a payment that begins here, beside the author:
-- they must be members, and the author must be one who may write. Of other commands the author must be a member.
CREATE FUNCTION judge_payment(
    p_now_ms bigint, p_author uuid, p_device uuid, p_dialog uuid, p_n bigint, p_what bytea,
    p_people_only boolean, p_parties uuid[]
) RETURNS smallint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    p record;
    v_what bytea;
    v_code smallint;
BEGIN
    SELECT x.type, x.status INTO p FROM principals x WHERE x.principal_id = p_author;
    IF p.status IS DISTINCT FROM ${PrincipalStatus.ACTIVE} THEN
        RETURN ${VerdictCode.SUSPENDED};
    ELSIF p_people_only AND p.type <> ${PrincipalType.PERSON} THEN
        RETURN ${VerdictCode.NOT_ALLOWED};
    END IF;
    SELECT c.what, c.code INTO v_what, v_code FROM payment_calls c
    WHERE c.device_id = p_device AND c.dialog_id = p_dialog AND c.n = p_n;
    IF v_what IS NULL THEN
        v_code := CASE
            WHEN cardinality(p_parties) > 0 THEN judge_writer(p_dialog, p_author)
            WHEN EXISTS (SELECT FROM members m JOIN heads h ON h.dialog_id = p_dialog
                         WHERE m.dialog_id = p_dialog AND m.principal_id = p_author AND m.member AND NOT h.deleted)
                THEN ${VerdictCode.OK}
            ELSE ${VerdictCode.NOT_FOUND} END;
        IF v_code = ${VerdictCode.OK} AND (
            SELECT count(*) FROM members m
            WHERE m.dialog_id = p_dialog AND m.principal_id = ANY (p_parties) AND m.member) < cardinality(p_parties) THEN
            v_code := ${VerdictCode.NOT_MEMBER};
        END IF;
        INSERT INTO payment_calls (device_id, dialog_id, n, what, code, at_ms)
        VALUES (p_device, p_dialog, p_n, p_what, v_code, p_now_ms) ON CONFLICT DO NOTHING;
        SELECT c.what, c.code INTO v_what, v_code FROM payment_calls c
        WHERE c.device_id = p_device AND c.dialog_id = p_dialog AND c.n = p_n;
    END IF;
    RETURN CASE WHEN v_what = p_what THEN v_code ELSE ${VerdictCode.CONFLICT} END;
END $$;
