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
           f.slots, t.slots, f.limited, coalesce(o.basis_points, g.basis_points, 0), coalesce(o.fixed, g.fixed, 0)
    INTO v_outcome, v.from_slots, v.to_slots, v_limited, v.basis_points, v.fixed
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
    v.payment_id := p_payment;
    v.tenant_id := p_tenant;
    v.dialog_id := p_dialog;
    v.order_id := p_order;
    v.payer_id := p_payer;
    v.payee_id := p_payee;
    v.from_id := p_from;
    v.to_id := p_to;
    v.currency := p_currency;
    v.amount := p_amount;
    v.capture_later := p_later;
    v.hold_us := p_hold_us;
    v.version := 1;
    v.captured := 0;
    v.fee := 0;
    v.refunded := 0;
    v.fee_returned := 0;
    v.disputed := 0;
    v.shared := cardinality(p_shares) > 0;
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
        SELECT t.outcome, t.at_us, t.now_us, t.fee INTO v_outcome, v.moved_us, v_now_us, v.fee
        FROM take_payment(v, v_limited, NULL, p_all) t;
        IF v_outcome = ${StepOutcome.AGAIN} THEN
            RETURN (v_outcome, NULL, NULL, NULL)::answer;
        ELSIF v_outcome <> ${StepOutcome.DONE} THEN
            RETURN close_step(p_key, p_body, v_now_us, v_outcome, NULL, NULL, NULL);
        END IF;
        v.state := CASE WHEN p_later THEN ${PaymentState.HELD} ELSE ${PaymentState.PAID} END;
        v.captured := CASE WHEN p_later THEN 0 ELSE p_amount END;
        v.expires_us := v_now_us + p_hold_us;
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
