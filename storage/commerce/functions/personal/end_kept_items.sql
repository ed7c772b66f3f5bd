-- Delete what the law wants kept no longer, `p_limit` items at most, unless the books are read-only; a legal key with nothing
-- under it is erased with the last one. How many items.
CREATE FUNCTION end_kept_items(p_limit int) RETURNS int
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v record;
    v_ended int := 0;
BEGIN
    IF NOT books_serve() THEN
        RETURN 0;
    END IF;
    FOR v IN SELECT x.* FROM (SELECT i.item_id, i.tenant_id, i.person_id, i.key_id FROM personal_items i
                              WHERE i.keep_until < (SELECT clock_us()) ORDER BY i.keep_until LIMIT p_limit) x
             ORDER BY x.person_id LOOP
        PERFORM lock_person(v.person_id);
        DELETE FROM personal_items i WHERE i.item_id = v.item_id AND i.keep_until < clock_us();
        IF NOT EXISTS (SELECT FROM personal_items i
                       WHERE i.tenant_id = v.tenant_id AND i.person_id = v.person_id AND i.key_id = v.key_id) THEN
            PERFORM erase_personal_key(v.key_id);
        END IF;
        v_ended := v_ended + 1;
    END LOOP;
    RETURN v_ended;
END $$;
