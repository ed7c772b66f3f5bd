-- Whether a person may have one more invitation, from this inviter; drops the oldest declined one if that makes room.
-- The caller has locked the head of the person's `self` dialog.
CREATE FUNCTION make_room_for_invitation(p_invited uuid, p_inviter uuid) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_all int;
    v_by_one int;
BEGIN
    SELECT count(*), count(*) FILTER (WHERE i.invited_by = p_inviter) INTO v_all, v_by_one
    FROM invitations i WHERE i.principal_id = p_invited;
    IF v_by_one >= ${INVITATIONS_BY_ONE_MAX} THEN
        RETURN false;
    END IF;
    IF v_all >= ${INVITATIONS_MAX} THEN
        DELETE FROM invitations WHERE principal_id = p_invited AND dialog_id = (
            SELECT i.dialog_id FROM invitations i WHERE i.principal_id = p_invited AND i.declined
            ORDER BY i.seq LIMIT 1);
        RETURN FOUND;
    END IF;
    RETURN true;
END $$;
