-- Behind which dialog a tenant's reading of what was told goes on; null: nothing is to be read.
CREATE FUNCTION begin_reading(p_tenant smallint) RETURNS uuid
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_noticed_us bigint;
BEGIN
    IF books_serve() THEN
        RETURN NULL;
    END IF;
    SELECT h.noticed_us INTO v_noticed_us FROM book_history h WHERE h.only_row;
    INSERT INTO readings AS r (tenant_id, noticed_us, after_dialog) VALUES (p_tenant, v_noticed_us, '${NIL}')
    ON CONFLICT (tenant_id) DO UPDATE SET noticed_us = excluded.noticed_us, after_dialog = excluded.after_dialog, done_us = NULL
    WHERE r.noticed_us <> excluded.noticed_us;
    RETURN (SELECT r.after_dialog FROM readings r WHERE r.tenant_id = p_tenant AND r.done_us IS NULL);
END $$;
