-- A new payment: asked for (`p_step` REQUEST: nothing moves), or sent. What is asked for may be divided: `p_shares` are wallets.
CREATE FUNCTION begin_payment(
    p_key uuid, p_body bytea, p_all boolean, p_actor uuid, p_step smallint,
    p_tenant smallint, p_payment uuid, p_dialog uuid, p_order uuid, p_payer uuid, p_payee uuid, p_from uuid, p_to uuid,
    p_currency text, p_amount bigint, p_later boolean, p_request_us bigint, p_hold_us bigint,
    p_shares uuid[], p_weights int[]
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v payments%ROWTYPE;
    v_limited boolean;
    v_taken record;
    v_outcome smallint;
    v_now_us bigint;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT CASE
               WHEN (p_amount BETWEEN 1 AND ${AMOUNT_MINOR_MAX}) IS NOT TRUE THEN ${StepOutcome.AMOUNT}
               WHEN p_payer = p_payee THEN ${StepOutcome.OWN_PAYEE}
               WHEN p_step <> ${PaymentStep.REQUEST} AND cardinality(p_shares) > 0 THEN ${StepOutcome.NOT_ALLOWED}
               WHEN (f.owner_id = p_payer AND t.owner_id = p_payee AND f.tenant_id = p_tenant AND t.tenant_id = p_tenant
                     AND f.purpose = ${Purpose.WALLET} AND t.purpose = ${Purpose.WALLET}) IS NOT TRUE
                   THEN ${StepOutcome.WALLET_NOT_FOUND}
               WHEN f.currency <> p_currency OR t.currency <> p_currency THEN ${StepOutcome.CURRENCY}
               WHEN f.status <> ${AccountStatus.ACTIVE} OR t.status <> ${AccountStatus.ACTIVE}
                   THEN ${StepOutcome.WALLET_CLOSED}
               ELSE ${StepOutcome.DONE} END,
           f.slots, t.slots, f.limited, coalesce(o.basis_points, g.basis_points, 0), coalesce(o.fixed, g.fixed, 0),
           p_payment, p_tenant, p_dialog, p_order, p_payer, p_payee, p_from, p_to, p_currency, p_amount, p_later, p_hold_us,
           cardinality(p_shares) > 0, 1, 0, 0, 0, 0, 0
    INTO v_outcome, v.from_slots, v.to_slots, v_limited, v.basis_points, v.fixed,
         v.payment_id, v.tenant_id, v.dialog_id, v.order_id, v.payer_id, v.payee_id, v.from_id, v.to_id, v.currency, v.amount,
         v.capture_later, v.hold_us, v.shared, v.version, v.captured, v.fee, v.refunded, v.fee_returned, v.disputed
    FROM (SELECT) one
    LEFT JOIN accounts f ON f.account_id = p_from AND f.slot = 0
    LEFT JOIN accounts t ON t.account_id = p_to AND t.slot = 0
    LEFT JOIN LATERAL (SELECT r.* FROM fee_rules r  -- their own rule, else that for all; without one nothing is charged
                       WHERE r.tenant_id = p_tenant AND r.owner_id = p_payee AND r.currency = p_currency
                       ORDER BY r.rule_id DESC LIMIT 1) o ON true
    LEFT JOIN LATERAL (SELECT r.* FROM fee_rules r
                       WHERE r.tenant_id = p_tenant AND r.owner_id = '${NIL}' AND r.currency = p_currency
                       ORDER BY r.rule_id DESC LIMIT 1) g ON true;
    IF v_outcome <> ${StepOutcome.DONE} THEN
        RETURN close_step(p_key, p_body, clock_us(), v_outcome, NULL, NULL, NULL);
    END IF;
    IF v.shared THEN
        v_outcome := add_shares(v, p_shares, p_weights);
    END IF;
    IF v_outcome <> ${StepOutcome.DONE} THEN
        RETURN close_step(p_key, p_body, clock_us(), v_outcome, NULL, NULL, NULL);
    ELSIF p_step = ${PaymentStep.REQUEST} THEN
        v_now_us := clock_us();
        v.moved_us := date_us(v_now_us, NULL);
        v.state := ${PaymentState.REQUESTED};
        v.expires_us := v_now_us + p_request_us;
    ELSE
        v_taken := take_payment(v, v_limited, NULL, p_all);
        IF v_taken.outcome = ${StepOutcome.AGAIN} THEN
            RETURN (v_taken.outcome, NULL, NULL, NULL)::answer;
        ELSIF v_taken.outcome <> ${StepOutcome.DONE} THEN
            RETURN close_step(p_key, p_body, v_taken.now_us, v_taken.outcome, NULL, NULL, NULL);
        END IF;
        v.moved_us := v_taken.at_us;
        v.fee := v_taken.fee;
        v.state := CASE WHEN p_later THEN ${PaymentState.HELD} ELSE ${PaymentState.PAID} END;
        v.captured := CASE WHEN p_later THEN 0 ELSE p_amount END;
        v.expires_us := v_taken.now_us + p_hold_us;
    END IF;
    WITH begun AS (
        INSERT INTO payments SELECT v.*
    ), noted AS (
        INSERT INTO payment_versions (payment_id, version, at_us, step, state, actor_id, captured, fee, refunded)
        VALUES (p_payment, 1, v.moved_us, p_step, v.state, p_actor, v.captured, v.fee, 0)
    ), told AS (
        INSERT INTO outbox (dialog_id, payment_id, version) VALUES (p_dialog, p_payment, 1)
    )
    INSERT INTO keys (key_id, body, at_us, outcome, subject, version)
    VALUES (p_key, p_body, v.moved_us, ${StepOutcome.DONE}, p_payment, 1);
    RETURN (${StepOutcome.DONE}, p_payment, 1, NULL)::answer;
END $$;
