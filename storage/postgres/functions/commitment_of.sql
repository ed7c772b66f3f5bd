-- The commitment in the header of a stored message, edit or reaction; null: it has none.
--
-- A body is packed: an array of values one after the other, of which the header is the third, of an edit and a reaction the
-- fourth. In the header, an array again, five values come before the commitment (`protocol/bodies.py`).
CREATE FUNCTION commitment_of(p_body bytea) RETURNS bytea
LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    v_body bytea := p_body || ''::bytea;  -- read once, though it may be stored out of line
    v_left int := CASE get_byte(p_body, 1) WHEN ${tag.Posted} THEN 2 ELSE 3 END;
    v_in_header boolean := false;
    v_at int := 1;
    b int;
BEGIN
    WHILE v_at < length(v_body) LOOP
        b := get_byte(v_body, v_at);
        IF v_left = 0 AND v_in_header THEN
            RETURN CASE WHEN b = 196 AND get_byte(v_body, v_at + 1) = 32 THEN substr(v_body, v_at + 3, 32) END;
        ELSIF v_left = 0 THEN
            v_in_header := true;
            v_left := 5;
            v_at := v_at + 1;
            CONTINUE;
        END IF;
        v_left := v_left - 1 + CASE WHEN b BETWEEN 144 AND 159 THEN b - 144 ELSE 0 END;  -- the values of an array
        v_at := v_at + CASE
            WHEN b BETWEEN 160 AND 191 THEN b - 159  -- a short text
            WHEN b IN (196, 217) THEN 2 + get_byte(v_body, v_at + 1)  -- longer texts, bytes
            WHEN b IN (197, 218) THEN 3 + get_byte(v_body, v_at + 1) * 256 + get_byte(v_body, v_at + 2)
            WHEN b IN (204, 208) THEN 2  -- numbers
            WHEN b IN (205, 209) THEN 3
            WHEN b IN (206, 210) THEN 5
            WHEN b IN (207, 211) THEN 9
            ELSE 1 END;
    END LOOP;
    RETURN NULL;
END $$;
