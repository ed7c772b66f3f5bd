-- Raise if the books are read-only: for what gives no answer of a step.
CREATE FUNCTION refuse_restored() RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    IF NOT books_serve() THEN
        RAISE EXCEPTION 'the books were restored and are read-only' USING ERRCODE = 'read_only_sql_transaction';
    END IF;
END $$;
