-- An admin gives what was in suspense to a wallet, or takes from one what a gateway took from nobody; once.
CREATE FUNCTION release_suspense(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_suspense bigint, p_wallet uuid
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v suspense%ROWTYPE;
    v_wallet accounts%ROWTYPE;
    v_suspense uuid;
    v_outcome smallint := ${StepOutcome.DONE};
    v_locked record;
    v_subject uuid := suspense_subject(p_suspense);
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT s.* INTO v FROM suspense s WHERE s.suspense_id = p_suspense AND s.tenant_id = p_tenant FOR NO KEY UPDATE;
    SELECT a.* INTO v_wallet FROM accounts a WHERE a.account_id = p_wallet AND a.slot = 0 AND a.tenant_id = p_tenant
        AND a.purpose = ${Purpose.WALLET};
    v_outcome := CASE WHEN v.suspense_id IS NULL OR v.released_us IS NOT NULL THEN ${StepOutcome.NO_INTENT}
                      WHEN v_wallet.account_id IS NULL THEN ${StepOutcome.WALLET_NOT_FOUND}
                      WHEN v_wallet.currency <> v.currency THEN ${StepOutcome.CURRENCY}
                      ELSE ${StepOutcome.DONE} END;
    IF v_outcome <> ${StepOutcome.DONE} THEN
        RETURN close_step(p_key, p_body, clock_us(), v_outcome, NULL, NULL, NULL);
    END IF;
    v_suspense := account_of(p_tenant, gateway_owner(v.gateway), v.currency, ${Purpose.SUSPENSE}::smallint);
    v_locked := lock_accounts(
        ARRAY[v_suspense, p_wallet, account_of(p_tenant, v_wallet.owner_id, v.currency, ${Purpose.RECEIVABLE}::smallint)],
        ARRAY[false, true, true]);
    IF is_closed(p_wallet) THEN
        RETURN close_step(p_key, p_body, v_locked.at_us, ${StepOutcome.WALLET_CLOSED}::smallint, NULL, NULL, NULL);
    ELSIF v.amount < 0 AND available(p_wallet) < -v.amount THEN
        RETURN close_step(p_key, p_body, v_locked.at_us, ${StepOutcome.INSUFFICIENT}::smallint, NULL, NULL, NULL);
    ELSIF v.amount < 0 THEN
        PERFORM post(v_locked.at_us, v.currency, ${TransferReason.SUSPENSE_RELEASED}::smallint, v_subject, NULL,
                     p_wallet, v_locked.slot[2], v_suspense, v_locked.slot[1], -v.amount);
    ELSE
        PERFORM post(v_locked.at_us, v.currency, ${TransferReason.SUSPENSE_RELEASED}::smallint, v_subject, NULL,
                     v_suspense, v_locked.slot[1], p_wallet, v_locked.slot[2], v.amount);
        IF p_wallet = ANY (v_locked.in_debt) THEN
            PERFORM settle_debt(v_locked.at_us, v.currency, v_subject, p_wallet, v_locked.slot[2]);
        END IF;
    END IF;
    UPDATE suspense SET released_us = v_locked.at_us, wallet_id = p_wallet WHERE suspense_id = p_suspense;
    PERFORM note_audit(p_tenant, 'release_suspense', p_actor, v_subject,
                       concat_ws(' ', p_suspense, v.amount, v.currency, p_wallet));
    RETURN close_step(p_key, p_body, v_locked.at_us, v_outcome, v_subject, NULL, NULL);
END $$;
