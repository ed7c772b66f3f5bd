-- The tenants whose chat was told something, or may have been, and whose reading is not at its end.
CREATE FUNCTION unread_tenants() RETURNS smallint[]
LANGUAGE sql STABLE
AS $$
    SELECT coalesce(array_agg(t.tenant_id ORDER BY t.tenant_id), '{}')
    FROM (SELECT e.tenant_id FROM chat_epochs e UNION SELECT r.tenant_id FROM readings r) t
    WHERE NOT EXISTS (SELECT FROM readings r JOIN book_history h ON h.noticed_us = r.noticed_us
                      WHERE r.tenant_id = t.tenant_id AND r.done_us IS NOT NULL)
$$;
