-- Let the books serve again, as an operator decides: true if they do now. False while what was told is unread or not
-- reconciled: nothing is changed. False, too, until the changes of gateways are read, which begins with the first call.
--
-- The timelines of `p_tenants` must be read whatever the books know. What is missing of `p_without_tenants` and
-- `p_without_gateways` stays missing, and the audit says so.
CREATE FUNCTION accept_books(p_who text, p_tenants smallint[], p_without_tenants smallint[], p_without_gateways text[])
RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    h book_history%ROWTYPE;
    v_unread smallint[];
    v_behind text[];
BEGIN
    IF books_serve() THEN
        RETURN true;
    END IF;
    SELECT x.* INTO h FROM book_history x WHERE x.only_row FOR NO KEY UPDATE;
    v_unread := unread_tenants(p_tenants);
    IF h.noticed_us IS NULL THEN
        RETURN true;
    ELSIF NOT v_unread <@ p_without_tenants OR EXISTS (SELECT FROM told_versions t WHERE t.open) THEN
        RETURN false;
    ELSIF h.told_us IS NULL THEN
        UPDATE book_history x SET told_us = clock_us() WHERE x.only_row;
        PERFORM read_gateways_again(h.known_us);
    END IF;
    v_behind := gateways_behind();
    IF NOT v_behind <@ p_without_gateways THEN
        RETURN false;
    END IF;
    PERFORM note_audit(0::smallint, 'accept_books', '${NIL}', '${NIL}',
                       concat_ws(' ', p_who, 'noticed_us', h.noticed_us, 'known_us', h.known_us,
                                 'without_tenants ' || nullif(array_to_string(v_unread, ','), ''),
                                 'without_gateways ' || nullif(array_to_string(v_behind, ','), '')));  -- of all tenants
    UPDATE book_history x SET noticed_us = NULL, known_us = NULL, told_us = NULL WHERE x.only_row;
    RETURN true;
END $$;
