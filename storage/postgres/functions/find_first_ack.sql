-- Look, under the head's lock, for what a device has already appended under this number: DUPLICATE or CONFLICT and the
-- rows to answer with, or nulls. `repeats` says that the caller repeats these rows, so that they may be routed again.
CREATE FUNCTION find_first_ack(
    p_dialog uuid, p_author uuid, p_device uuid, p_n bigint, p_body bytea,
    OUT code smallint, OUT first_seq bigint, OUT last_seq bigint, OUT repeats boolean
)
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    v_first journal%ROWTYPE;
BEGIN
    SELECT * INTO v_first FROM journal j
    WHERE p_n > 0 AND j.dialog_id = p_dialog AND j.device_id = p_device AND j.n = p_n;
    IF v_first.seq IS NULL THEN
        RETURN;
    END IF;
    code := CASE
        WHEN v_first.tag = ${tag.Erased} OR (v_first.body = p_body AND v_first.author_id = p_author)
            THEN ${VerdictCode.DUPLICATE}
        ELSE ${VerdictCode.CONFLICT} END;
    repeats := code = ${VerdictCode.DUPLICATE};
    first_seq := v_first.seq;
    last_seq := v_first.seq;
    IF repeats AND v_first.tag IN (${tag.MemberLeft}, ${tag.MembersAdded}) THEN
        -- The promotion of an heir is part of the answer to the last admin who leaves, and that of who joins an empty
        -- dialog part of theirs.
        SELECT coalesce(max(j.seq), last_seq) INTO last_seq FROM journal j
        WHERE j.dialog_id = p_dialog AND j.seq = v_first.seq + 1 AND j.tag = ${tag.Promoted} AND j.n = 0;
    END IF;
END $$;
