-- The tenants whose chat was told something, or may have been, and whose reading is not at its end. `p_named` are those that
-- the books may know nothing of: a backup is perhaps older than all that they were told.
CREATE FUNCTION unread_tenants(p_named smallint[]) RETURNS smallint[]
LANGUAGE sql STABLE
AS $$
    WITH RECURSIVE told AS (
        SELECT (SELECT p.tenant_id FROM places p ORDER BY p.tenant_id LIMIT 1) AS tenant_id
        UNION ALL
        SELECT (SELECT p.tenant_id FROM places p WHERE p.tenant_id > t.tenant_id ORDER BY p.tenant_id LIMIT 1) FROM told t
        WHERE t.tenant_id IS NOT NULL
    )
    SELECT coalesce(array_agg(t.tenant_id ORDER BY t.tenant_id), '{}')
    FROM (SELECT e.tenant_id FROM chat_epochs e UNION SELECT r.tenant_id FROM readings r
          UNION SELECT unnest(p_named)
          UNION SELECT x.tenant_id FROM told x WHERE x.tenant_id IS NOT NULL) t
    WHERE NOT EXISTS (SELECT FROM readings r JOIN book_history h ON h.noticed_us = r.noticed_us
                      WHERE r.tenant_id = t.tenant_id AND r.done_us IS NOT NULL)
$$;
