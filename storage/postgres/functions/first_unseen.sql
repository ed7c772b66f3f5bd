-- The first number of a dialog that a horizon does not cover; one past the head when it covers all.
--
-- The stamps of a timeline never fall, so this looks back from the head in steps that double, then halves what is left:
-- two lookups for each doubling of what was missed, however long the timeline is.
CREATE FUNCTION first_unseen(p_dialog uuid, p_head bigint, p_since xid8) RETURNS bigint
LANGUAGE plpgsql STABLE
AS $$
DECLARE
    v_unseen bigint := p_head + 1;
    v_seen bigint := p_head;
    v_step bigint := 1;
    v_middle bigint;
BEGIN
    WHILE v_seen > 0 AND (SELECT j.xid >= p_since FROM journal j WHERE j.dialog_id = p_dialog AND j.seq = v_seen) LOOP
        v_unseen := v_seen;
        v_seen := greatest(v_seen - v_step, 0);
        v_step := v_step * 2;
    END LOOP;
    WHILE v_unseen - v_seen > 1 LOOP
        v_middle := (v_seen + v_unseen) / 2;
        IF (SELECT j.xid >= p_since FROM journal j WHERE j.dialog_id = p_dialog AND j.seq = v_middle) THEN
            v_unseen := v_middle;
        ELSE
            v_seen := v_middle;
        END IF;
    END LOOP;
    RETURN v_unseen;
END $$;
