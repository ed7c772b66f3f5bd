-- Capture holds in full, many at once: those that are plainly fine. The new version of each that was done; what is null has
-- written nothing and goes alone, to `step_payment`, which has the whole of the rules.
--
-- Plainly fine: key and payment are once in the batch, the key is new, the payment is held, not due
-- and not of a later time, the payee owes nothing.
CREATE FUNCTION capture_payments(
    p_key uuid[], p_body bytea[], p_actor uuid[], p_tenant smallint[], p_payment uuid[], p_party uuid[]
) RETURNS int[]
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_pid int := pg_backend_pid();
    v_ids uuid[];
    v_slots smallint[];
    v_locked record;
    v_done int[];
    v_lost bigint;
BEGIN
    PERFORM lock_keys(p_key);
    PERFORM FROM payments p WHERE p.payment_id = ANY (p_payment) ORDER BY p.payment_id FOR NO KEY UPDATE;
    SELECT array_agg(x.id), array_agg(x.slot) INTO v_ids, v_slots FROM (
        SELECT DISTINCT u.id, u.slot FROM unnest(p_payment) t(payment_id)
        CROSS JOIN LATERAL (SELECT p.* FROM payments p
                            WHERE p.payment_id = t.payment_id AND p.state = ${PaymentState.HELD} LIMIT 1) p
        CROSS JOIN LATERAL (
            VALUES (p.to_id, (v_pid % p.to_slots)::smallint),
                   (account_of(p.tenant_id, '${NIL}', p.currency, ${Purpose.FEES}::smallint), (v_pid % ${SLOTS_SHARED})::smallint)
        ) u(id, slot)) x;
    v_locked := lock_slots(v_ids, v_slots, v_slots);

    WITH fine AS MATERIALIZED (
        SELECT r.*, p.tenant_id, p.dialog_id, p.version + 1 AS version, p.to_id, (v_pid % p.to_slots)::smallint AS to_slot,
               p.currency, p.amount, fee_of(p.amount, p.basis_points, p.fixed) AS fee, v_locked.at_us AS at_us,
               account_of(p.tenant_id, '${NIL}', p.currency, ${Purpose.FEES}::smallint) AS fees_id
        FROM unnest(p_key, p_body, p_actor, p_tenant, p_payment, p_party) WITH ORDINALITY
            AS r(key_id, body, actor_id, tenant, payment_id, party_id, ord)
        CROSS JOIN LATERAL (SELECT x.* FROM payments x WHERE x.payment_id = r.payment_id LIMIT 1) p
        WHERE p.state = ${PaymentState.HELD} AND p.tenant_id = r.tenant AND NOT p.shared AND v_locked.now_us < p.expires_us
          AND p.moved_us <= v_locked.at_us AND (r.party_id IS NULL OR r.party_id IN (p.payer_id, p.payee_id))
          AND p.to_id <> ALL (coalesce(v_locked.in_debt, '{}'))
          AND r.key_id <> ALL (p_key[:r.ord - 1]) AND r.payment_id <> ALL (p_payment[:r.ord - 1])
          AND NOT EXISTS (SELECT FROM keys k WHERE k.key_id = r.key_id)
    ), leg AS (
        SELECT f.ord * 2 AS ord, f.payment_id, f.to_id AS id, f.to_slot AS slot, f.amount - f.fee AS amount, f.fee AS debit_after,
               ${TransferReason.CAPTURE} AS reason, f.currency, f.at_us
        FROM fine f WHERE f.amount > f.fee
        UNION ALL
        SELECT f.ord * 2 + 1, f.payment_id, f.fees_id, (v_pid % ${SLOTS_SHARED})::smallint, f.fee, 0, ${TransferReason.FEE}, f.currency, f.at_us
        FROM fine f WHERE f.fee > 0
    ), credited AS (
        UPDATE accounts a SET balance = a.balance + x.amount, moved_us = greatest(a.moved_us, x.at_us)
        FROM (SELECT l.id, l.slot, sum(l.amount)::bigint AS amount, max(l.at_us) AS at_us FROM leg l GROUP BY l.id, l.slot) x
        WHERE a.account_id = x.id AND a.slot = x.slot
    ), moved AS (
        INSERT INTO transfers (at_us, debit_id, debit_slot, credit_id, credit_slot, amount, currency, reason, subject_id,
                               debit_after, credit_after)
        SELECT l.at_us, l.payment_id, ${HOLD_SLOT}, l.id, l.slot, l.amount, l.currency, l.reason,
               l.payment_id, l.debit_after, a.balance + sum(l.amount) OVER (PARTITION BY l.id, l.slot ORDER BY l.ord)
        FROM leg l
        CROSS JOIN LATERAL (SELECT x.balance FROM accounts x WHERE x.account_id = l.id AND x.slot = l.slot LIMIT 1) a
        ORDER BY l.ord RETURNING amount
    ), ended AS (
        UPDATE holds h SET balance = 0, state = ${HoldState.CAPTURED} FROM fine f WHERE h.hold_id = f.payment_id
        RETURNING f.amount
    ), stepped AS (
        UPDATE payments p SET version = f.version, state = ${PaymentState.PAID}, captured = f.amount, fee = f.fee, moved_us = f.at_us
        FROM fine f WHERE p.payment_id = f.payment_id
    ), noted AS (
        INSERT INTO payment_versions (payment_id, version, at_us, step, state, actor_id, captured, fee, refunded)
        SELECT f.payment_id, f.version, f.at_us, ${PaymentStep.CAPTURE}, ${PaymentState.PAID}, f.actor_id, f.amount, f.fee, 0
        FROM fine f
    ), told AS (
        INSERT INTO outbox (dialog_id, payment_id, version)
        SELECT f.dialog_id, f.payment_id, f.version FROM fine f ORDER BY f.ord
    ), kept AS (
        INSERT INTO keys (key_id, body, at_us, outcome, subject, version)
        SELECT f.key_id, f.body, f.at_us, ${StepOutcome.DONE}, f.payment_id, f.version FROM fine f
    )
    SELECT array_agg(d.version ORDER BY d.ord), coalesce((SELECT sum(x.amount) FROM fine x), 0)
           - least(coalesce((SELECT sum(x.amount) FROM moved x), 0), coalesce((SELECT sum(x.amount) FROM ended x), 0))
    INTO v_done, v_lost
    FROM (SELECT u.ord, max(u.version) AS version
          FROM (SELECT ord, NULL::int AS version FROM generate_series(1, cardinality(p_key)) ord
                UNION ALL SELECT f.ord, f.version FROM fine f) u GROUP BY u.ord) d;
    IF v_lost <> 0 THEN
        RAISE EXCEPTION 'a batch of captures would lose %', v_lost;  -- an account or a hold is missing
    END IF;
    RETURN v_done;
END $$;
