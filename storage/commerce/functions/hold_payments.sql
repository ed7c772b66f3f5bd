-- Begin payments that are held, many at once: those that are plainly fine. True for each that was done; what is false has
-- written nothing, but a person's buckets may have begun, and goes alone, to `begin_payment`, which has the whole of the rules.
--
-- Plainly fine: the key is new, and once in the batch; the wallets are active, of one slot on the payer's side, and have
-- what all of the batch take; the person's buckets fit all. Locks are taken for the whole batch, class by class.
CREATE FUNCTION hold_payments(
    p_key uuid[], p_body bytea[], p_actor uuid[],
    p_tenant smallint[], p_payment uuid[], p_dialog uuid[], p_order uuid[], p_payer uuid[], p_payee uuid[],
    p_from uuid[], p_to uuid[], p_currency text[], p_amount bigint[], p_hold_us bigint[]
) RETURNS boolean[]
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_plain boolean[];
    v_limited uuid[];  -- the person, null where nothing is limited
    v_counted bigint[];
    v_to_slots smallint[];
    v_basis_points int[];
    v_fixed bigint[];
    v_locked record;
    v_done boolean[];
BEGIN
    PERFORM lock_keys(p_key);
    SELECT array_agg(coalesce(f.plain AND t.plain AND r.amount BETWEEN 1 AND ${AMOUNT_MINOR_MAX} AND r.payer_id <> r.payee_id
                              AND f.currency = r.currency AND t.currency = r.currency
                              AND (NOT f.limited OR c.counted IS NOT NULL)
                              AND r.key_id <> ALL (p_key[:r.ord - 1]) AND k.found IS NULL, false) ORDER BY r.ord),
           array_agg(CASE WHEN f.limited THEN r.payer_id END ORDER BY r.ord),
           array_agg(CASE WHEN f.limited THEN c.counted ELSE 0 END ORDER BY r.ord),
           array_agg(t.slots ORDER BY r.ord),
           array_agg(coalesce(o.basis_points, g.basis_points, 0) ORDER BY r.ord),
           array_agg(coalesce(o.fixed, g.fixed, 0) ORDER BY r.ord)
    INTO v_plain, v_limited, v_counted, v_to_slots, v_basis_points, v_fixed
    FROM unnest(p_key, p_tenant, p_payer, p_payee, p_from, p_to, p_currency, p_amount) WITH ORDINALITY
        AS r(key_id, tenant_id, payer_id, payee_id, from_id, to_id, currency, amount, ord)
    LEFT JOIN LATERAL (SELECT a.currency, a.limited, a.slots = 1 AND a.owner_id = r.payer_id AND a.tenant_id = r.tenant_id
                              AND a.purpose = ${Purpose.WALLET} AND a.status = ${AccountStatus.ACTIVE} AS plain
                       FROM accounts a WHERE a.account_id = r.from_id AND a.slot = 0 LIMIT 1) f ON true
    LEFT JOIN LATERAL (SELECT a.currency, a.slots, a.owner_id = r.payee_id AND a.tenant_id = r.tenant_id
                              AND a.purpose = ${Purpose.WALLET} AND a.status = ${AccountStatus.ACTIVE} AS plain
                       FROM accounts a WHERE a.account_id = r.to_id AND a.slot = 0 LIMIT 1) t ON true
    LEFT JOIN LATERAL (SELECT true AS found FROM keys x WHERE x.key_id = r.key_id LIMIT 1) k ON true
    LEFT JOIN LATERAL (SELECT least(ceil(r.amount * x.rate), ${BALANCE_MAX} + 1)::bigint AS counted FROM reference_rates x
                       WHERE f.limited AND x.tenant_id = r.tenant_id AND x.currency = r.currency LIMIT 1) c ON true
    LEFT JOIN LATERAL (SELECT x.* FROM fee_rules x
                       WHERE x.tenant_id = r.tenant_id AND x.owner_id = r.payee_id AND x.currency = r.currency
                       ORDER BY x.rule_id DESC LIMIT 1) o ON true
    LEFT JOIN LATERAL (SELECT x.* FROM fee_rules x
                       WHERE x.tenant_id = r.tenant_id AND x.owner_id = '${NIL}' AND x.currency = r.currency
                       ORDER BY x.rule_id DESC LIMIT 1) g ON true;
    PERFORM FROM persons w WHERE w.person_id = ANY (v_limited) ORDER BY w.person_id FOR NO KEY UPDATE;
    v_locked := lock_slots(
        ARRAY(SELECT DISTINCT u.id FROM unnest(p_from, v_plain) u(id, plain) WHERE u.plain),
        array_fill(0::smallint, ARRAY[cardinality(p_from)]), array_fill(0::smallint, ARRAY[cardinality(p_from)]));
    PERFORM begin_bucket(w.person_id, s.span::smallint, w.timezone, v_locked.at_us, u.ends_us)
    FROM (SELECT DISTINCT x.person_id FROM unnest(v_limited, v_plain) x(person_id, plain) WHERE x.plain) asks
    JOIN persons w ON w.person_id = asks.person_id
    CROSS JOIN (VALUES (${LimitSpan.DAY}), (${LimitSpan.MONTH})) s(span)
    LEFT JOIN LATERAL (SELECT x.ends_us FROM limit_use x WHERE x.person_id = w.person_id AND x.span = s.span
                       ORDER BY x.starts_us DESC LIMIT 1) u ON true
    WHERE (v_locked.at_us < u.ends_us) IS NOT TRUE;

    WITH asked AS MATERIALIZED (
        SELECT r.*, sum(r.amount) OVER (PARTITION BY r.from_id ORDER BY r.ord) AS taken,
               sum(r.amount) OVER (PARTITION BY r.from_id) AS taken_by_all,
               sum(r.counted) OVER (PARTITION BY r.person_id) AS counted_by_all
        FROM unnest(p_key, p_body, p_actor, p_tenant, p_payment, p_dialog, p_order, p_payer, p_payee, p_from, p_to, p_currency,
                    p_amount, p_hold_us, v_plain, v_limited, v_counted, v_to_slots, v_basis_points, v_fixed) WITH ORDINALITY
            AS r(key_id, body, actor_id, tenant_id, payment_id, dialog_id, order_id, payer_id, payee_id, from_id, to_id, currency,
                 amount, hold_us, plain, person_id, counted, to_slots, basis_points, fixed, ord)
        WHERE r.plain
    ), fine AS MATERIALIZED (
        SELECT r.*, a.balance, d.starts_us AS day_us, m.starts_us AS month_us
        FROM asked r
        CROSS JOIN LATERAL (SELECT x.balance, x.status FROM accounts x
                            WHERE x.account_id = r.from_id AND x.slot = 0 LIMIT 1) a
        LEFT JOIN LATERAL (SELECT x.day_max, x.month_max FROM persons x WHERE x.person_id = r.person_id LIMIT 1) w ON true
        LEFT JOIN LATERAL (SELECT x.starts_us, x.ends_us, x.used FROM limit_use x
                           WHERE x.person_id = r.person_id AND x.span = ${LimitSpan.DAY}
                           ORDER BY x.starts_us DESC LIMIT 1) d ON true
        LEFT JOIN LATERAL (SELECT x.starts_us, x.ends_us, x.used FROM limit_use x
                           WHERE x.person_id = r.person_id AND x.span = ${LimitSpan.MONTH}
                           ORDER BY x.starts_us DESC LIMIT 1) m ON true
        WHERE r.taken_by_all <= a.balance AND a.status = ${AccountStatus.ACTIVE}
          AND (r.person_id IS NULL OR (v_locked.at_us < d.ends_us AND v_locked.at_us < m.ends_us
               AND d.used + r.counted_by_all <= coalesce(w.day_max, ${BALANCE_MAX})
               AND m.used + r.counted_by_all <= coalesce(w.month_max, ${BALANCE_MAX})))
    ), debited AS (
        UPDATE accounts a SET balance = a.balance - x.amount, moved_us = v_locked.at_us
        FROM (SELECT f.from_id, sum(f.amount)::bigint AS amount FROM fine f GROUP BY f.from_id) x
        WHERE a.account_id = x.from_id AND a.slot = 0
    ), counted AS (
        UPDATE limit_use u SET used = u.used + x.counted
        FROM (SELECT f.person_id, s.span, CASE s.span WHEN ${LimitSpan.DAY} THEN f.day_us ELSE f.month_us END AS starts_us,
                     sum(f.counted)::bigint AS counted
              FROM fine f CROSS JOIN (VALUES (${LimitSpan.DAY}), (${LimitSpan.MONTH})) s(span)
              WHERE f.person_id IS NOT NULL GROUP BY 1, 2, 3) x
        WHERE u.person_id = x.person_id AND u.span = x.span AND u.starts_us = x.starts_us
    ), held AS (
        INSERT INTO holds (hold_id, account_id, slot, currency, amount, balance, state, person_id, counted, day_us, month_us)
        SELECT f.payment_id, f.from_id, 0, f.currency, f.amount, f.amount, ${HoldState.OPEN},
               f.person_id, f.counted, f.day_us, f.month_us FROM fine f
    ), moved AS (
        INSERT INTO transfers (at_us, debit_id, debit_slot, credit_id, credit_slot, amount, currency, reason, subject_id,
                               debit_after, credit_after)
        SELECT v_locked.at_us, f.from_id, 0, f.payment_id, ${HOLD_SLOT}, f.amount, f.currency, ${TransferReason.HOLD}, f.payment_id,
               f.balance - f.taken, f.amount FROM fine f ORDER BY f.ord
    ), begun AS (
        INSERT INTO payments (payment_id, tenant_id, dialog_id, order_id, payer_id, payee_id, from_id, to_id,
                              from_slots, to_slots, currency, amount, capture_later, hold_us, basis_points, fixed,
                              expires_us, state, version, moved_us)
        SELECT f.payment_id, f.tenant_id, f.dialog_id, f.order_id, f.payer_id, f.payee_id, f.from_id, f.to_id,
               1, f.to_slots, f.currency, f.amount, true, f.hold_us, f.basis_points, f.fixed,
               v_locked.now_us + f.hold_us, ${PaymentState.HELD}, 1, v_locked.at_us FROM fine f
    ), noted AS (
        INSERT INTO payment_versions (payment_id, version, at_us, step, state, actor_id, captured, fee, refunded)
        SELECT f.payment_id, 1, v_locked.at_us, ${PaymentStep.SEND}, ${PaymentState.HELD}, f.actor_id, 0, 0, 0 FROM fine f
    ), told AS (
        INSERT INTO outbox (dialog_id, payment_id, version) SELECT f.dialog_id, f.payment_id, 1 FROM fine f ORDER BY f.ord
    ), kept AS (
        INSERT INTO keys (key_id, body, at_us, outcome, subject, version)
        SELECT f.key_id, f.body, v_locked.at_us, ${StepOutcome.DONE}, f.payment_id, 1 FROM fine f
    )
    SELECT array_agg(x.done ORDER BY x.ord) INTO v_done
    FROM (SELECT u.ord, bool_or(u.done) AS done
          FROM (SELECT ord, false AS done FROM generate_series(1, cardinality(p_key)) ord
                UNION ALL SELECT f.ord, true FROM fine f) u GROUP BY u.ord) x;
    RETURN v_done;
END $$;
