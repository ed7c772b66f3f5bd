-- A number for an order of a business: readable, and dense. The last lock of a step.
--
-- Every connection takes numbers from a slot; an empty slot takes some off the counter (the slot -1): one while the business
-- is small, so that its numbers follow each other, more when it is large, so that its orders do not wait for each other. What
-- a step that fails took returns with it.
CREATE FUNCTION next_order_number(p_business uuid) RETURNS bigint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_slot smallint := pg_backend_pid() % ${SLOTS_SHARED};
    v_number bigint;
    v_end bigint;
BEGIN
    UPDATE order_numbers n SET next_number = n.next_number + 1
    WHERE n.business_id = p_business AND n.slot = v_slot AND n.next_number < n.end_number
    RETURNING n.next_number - 1 INTO v_number;
    IF FOUND THEN
        RETURN v_number;
    END IF;
    INSERT INTO order_numbers (business_id, slot, next_number, end_number)
    VALUES (p_business, -1, 1, 0), (p_business, v_slot, 0, 0) ON CONFLICT DO NOTHING;
    PERFORM FROM order_numbers n WHERE n.business_id = p_business AND n.slot = v_slot FOR NO KEY UPDATE;
    UPDATE order_numbers n
    SET next_number = n.next_number + CASE WHEN n.next_number < ${NUMBERS_SINGLE} THEN 1 ELSE ${NUMBERS_TAKEN} END
    WHERE n.business_id = p_business AND n.slot = -1
    RETURNING n.next_number INTO v_end;
    v_number := v_end - CASE WHEN v_end <= ${NUMBERS_SINGLE} THEN 1 ELSE ${NUMBERS_TAKEN} END;
    UPDATE order_numbers n SET next_number = v_number + 1, end_number = v_end
    WHERE n.business_id = p_business AND n.slot = v_slot;
    RETURN v_number;
END $$;
