-- The server says in a sealed dialog that the device log of the author has grown: who seals there needs their devices
-- anew. It is said once of each length: what has been said, or more, is answered as a repetition; and once more after keys
-- of a device in it have come back, unless `keys_seq` has moved since. Whether the author may write does not matter.
CREATE FUNCTION change_devices_changed(
    p_incarnation bigint, p_flush_no bigint, p_dialog uuid, p_author uuid, p_device uuid, p_n bigint,
    p_body bytea, p_fields jsonb
) RETURNS SETOF change_row
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    o record;
    v_said roster_intervals%ROWTYPE;
    v_generation bigint := p_fields -> 'log' -> 'generation';
    v_length int := p_fields -> 'log' -> 'length';
    v_mode smallint;
    v_again boolean;
BEGIN
    SELECT * INTO o FROM open_change(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n, p_body);
    IF o.code IN (${VerdictCode.OK}, ${VerdictCode.SUSPENDED}) THEN
        SELECT * INTO v_said FROM roster_intervals r
        WHERE r.dialog_id = p_dialog AND r.until_seq = ${STILL} AND r.principal_id = p_author;
        SELECT h.mode, (v_said.generation, v_said.length) = (v_generation, v_length) AND coalesce((
                   SELECT j.at_ms FROM journal j WHERE j.dialog_id = p_dialog AND j.seq = greatest(h.keys_seq, 1)), 0)
               < (SELECT a.again_ms FROM log_announcements a WHERE a.principal_id = p_author)
        INTO v_mode, v_again FROM heads h WHERE h.dialog_id = p_dialog;
        o.code := CASE
            WHEN v_mode <> ${Mode.SEALED} THEN ${VerdictCode.NOT_ALLOWED}
            WHEN v_again THEN ${VerdictCode.OK}
            WHEN (v_said.generation, v_said.length) >= (v_generation, v_length) THEN ${VerdictCode.DUPLICATE}
            ELSE ${VerdictCode.OK} END;
    END IF;
    IF o.code = ${VerdictCode.OK} THEN
        o.first_seq := append_row(p_incarnation, p_flush_no, p_dialog, p_author, p_device, p_n,
                                  ${tag.DevicesChanged}, NULL, p_body, o.now_ms);
        UPDATE heads SET keys_seq = o.first_seq WHERE dialog_id = p_dialog;
        PERFORM note_roster(p_dialog, ARRAY[p_author], o.first_seq, v_generation, v_length,
                            decode(p_fields -> 'log' ->> 'head', 'hex'));
    ELSIF o.code = ${VerdictCode.DUPLICATE} THEN
        -- Of a call whose reply was lost, this is the row that is still to be delivered.
        SELECT j.seq, true INTO o.first_seq, o.repeats FROM journal j
        WHERE j.dialog_id = p_dialog AND j.seq = v_said.from_seq AND j.body = p_body;
    END IF;
    RETURN QUERY SELECT * FROM answer_change(p_dialog, p_n, o.code, o.first_seq, o.last_seq, o.repeats, o.now_ms);
END $$;
