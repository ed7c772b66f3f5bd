-- A request ends without money: declined, cancelled or expired, at `p_now_us`, the clock by which it was judged. The payment
-- is locked and in the state REQUESTED.
CREATE FUNCTION end_request(p payments, p_step smallint, p_actor uuid, p_now_us bigint) RETURNS payments
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    p.version := p.version + 1;
    p.moved_us := date_us(p_now_us, p.moved_us);
    p.state := CASE p_step WHEN ${PaymentStep.DECLINE} THEN ${PaymentState.DECLINED}
                           WHEN ${PaymentStep.CANCEL} THEN ${PaymentState.CANCELLED}
                           ELSE ${PaymentState.EXPIRED} END;
    UPDATE payments SET version = p.version, state = p.state, moved_us = p.moved_us WHERE payment_id = p.payment_id;
    PERFORM note_version(p, p_step, p_actor);
    RETURN p;
END $$;
