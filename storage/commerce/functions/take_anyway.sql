-- Take from a wallet what cannot be refused, as the return of a payout that failed. `detail` is what became a debt.
CREATE FUNCTION take_anyway(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_subject uuid, p_reason smallint, p_from uuid, p_to uuid, p_amount bigint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v_outcome smallint;
    v_taken record;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    v_outcome := CASE
        WHEN (p_amount BETWEEN 1 AND ${AMOUNT_MINOR_MAX}) IS NOT TRUE THEN ${StepOutcome.AMOUNT}
        WHEN (SELECT f.currency = t.currency FROM accounts f, accounts t
              WHERE f.account_id = p_from AND f.slot = 0 AND f.tenant_id = p_tenant AND f.purpose = ${Purpose.WALLET}
                AND t.account_id = p_to AND t.slot = 0 AND t.tenant_id = p_tenant) IS NOT TRUE
            THEN ${StepOutcome.WALLET_NOT_FOUND}
        ELSE ${StepOutcome.DONE} END;
    IF v_outcome <> ${StepOutcome.DONE} THEN
        RETURN close_step(p_key, p_body, clock_us(), v_outcome, NULL, NULL, NULL);
    END IF;
    SELECT t.* INTO v_taken FROM take_or_owe(p_reason, p_subject, p_from, p_to, p_amount) t;
    PERFORM note_audit(p_tenant, 'take_anyway', p_actor, p_subject, concat_ws(' ', p_from, p_to, p_amount));
    RETURN close_step(p_key, p_body, clock_us(), v_outcome, p_subject, 1, v_taken.debt);
END $$;
