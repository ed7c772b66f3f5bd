-- Reserve the stock of an order (the caller has locked it and found it there), release it, or note that it is sold.
CREATE FUNCTION move_order_stock(p_order uuid, p_move smallint, p_actor uuid) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_available int := CASE p_move WHEN ${StockMove.RESERVED} THEN -1 WHEN ${StockMove.RELEASED} THEN 1 ELSE 0 END;
    v_reserved int := CASE p_move WHEN ${StockMove.RESERVED} THEN 1 ELSE -1 END;
    v_now_us bigint;
BEGIN
    PERFORM lock_stock(ARRAY(SELECT l.variant_id FROM order_lines l WHERE l.order_id = p_order AND l.tracked));
    v_now_us := clock_us();
    WITH moved AS (
        UPDATE stock s SET available = s.available + v_available * l.quantity, reserved = s.reserved + v_reserved * l.quantity,
            moved_us = greatest(v_now_us, s.moved_us)
        FROM order_lines l WHERE l.order_id = p_order AND l.tracked AND s.variant_id = l.variant_id
        RETURNING s.variant_id, s.moved_us, l.quantity, s.available, s.reserved
    )
    INSERT INTO stock_movements (variant_id, at_us, move, available_change, reserved_change, available_after, reserved_after,
                                 order_id, actor_id)
    SELECT m.variant_id, m.moved_us, p_move, v_available * m.quantity, v_reserved * m.quantity, m.available, m.reserved,
           p_order, p_actor
    FROM moved m ORDER BY m.variant_id;
END $$;
