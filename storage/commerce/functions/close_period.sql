-- Close a month: what is posted from now on is dated after it. Waits for the steps that are under way. False: it is not over.
CREATE FUNCTION close_period(p_actor uuid, p_period int, p_ends_us bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM refuse_restored();
    PERFORM pg_advisory_xact_lock(${PERIOD_LOCKS}, 0);
    IF clock_us() < p_ends_us THEN
        RETURN false;
    END IF;
    INSERT INTO periods (period, ends_us, closed_us) VALUES (p_period, p_ends_us, clock_us()) ON CONFLICT DO NOTHING;
    IF FOUND THEN
        PERFORM note_audit(0::smallint, 'close_period', p_actor, '${NIL}', p_period::text);  -- of all tenants
    END IF;
    RETURN true;
END $$;
