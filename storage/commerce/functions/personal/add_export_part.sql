-- Add part number `p_part`, from 0, and say where the next one begins (null: it was the last). False if the export is gone
-- or another process has added this part.
CREATE FUNCTION add_export_part(p_export uuid, p_part int, p_sealed bytea, p_reached text) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM refuse_restored();
    PERFORM lock_person(e.person_id) FROM exports e WHERE e.export_id = p_export;
    UPDATE exports e SET parts = p_part + 1, reached = p_reached,
                         look_us = CASE WHEN p_reached IS NOT NULL THEN clock_us() END
    WHERE e.export_id = p_export AND e.parts = p_part AND e.look_us IS NOT NULL;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO export_parts (export_id, part, sealed) VALUES (p_export, p_part, p_sealed);
    RETURN true;
END $$;
