-- Whether the operator says that a standby which is promoted lacks nothing.
CREATE FUNCTION declare_failover(p_synchronous boolean) RETURNS void
LANGUAGE sql VOLATILE
AS $$ UPDATE book_history SET synchronous = p_synchronous WHERE synchronous <> p_synchronous $$;
