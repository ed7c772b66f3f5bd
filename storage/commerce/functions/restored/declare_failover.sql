-- Whether a standby that is promoted lacks nothing, as the operator declares.
CREATE FUNCTION declare_failover(p_synchronous boolean) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    UPDATE book_history SET synchronous = p_synchronous WHERE only_row AND synchronous <> p_synchronous
$$;
