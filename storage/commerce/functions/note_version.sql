-- The version that a payment has now: its line of the audit, and what the relay announces. Its order follows it.
CREATE FUNCTION note_version(p payments, p_step smallint, p_actor uuid) RETURNS void
LANGUAGE sql VOLATILE
AS $$
    INSERT INTO payment_versions (payment_id, version, at_us, step, state, actor_id, captured, fee, refunded)
    VALUES (p.payment_id, p.version, p.moved_us, p_step, p.state, p_actor, p.captured, p.fee, p.refunded);
    INSERT INTO outbox (dialog_id, payment_id, version) VALUES (p.dialog_id, p.payment_id, p.version);
    SELECT follow_order(p, p_actor) WHERE p.order_id IS NOT NULL
$$;
