-- Offer an exchange at the rate of now: what is bought is rounded down. Nothing is reserved.
CREATE FUNCTION make_quote(
    p_key uuid, p_body bytea, p_tenant smallint, p_owner uuid, p_quote uuid, p_sell text, p_amount bigint, p_buy text,
    p_life_us bigint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v_bought numeric;
    v_outcome smallint;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT floor(p_amount * r.rate) INTO v_bought FROM exchange_rates r
    WHERE r.tenant_id = p_tenant AND r.sell_currency = p_sell AND r.buy_currency = p_buy;
    v_outcome := CASE WHEN v_bought IS NULL THEN ${StepOutcome.CURRENCY}
                      WHEN v_bought NOT BETWEEN 1 AND ${AMOUNT_MINOR_MAX} THEN ${StepOutcome.AMOUNT}
                      ELSE ${StepOutcome.DONE} END;
    IF v_outcome <> ${StepOutcome.DONE} THEN
        RETURN close_step(p_key, p_body, clock_us(), v_outcome, NULL, NULL, NULL);
    END IF;
    INSERT INTO quotes (quote_id, tenant_id, owner_id, sell_currency, sell_amount, buy_currency, buy_amount, expires_us)
    VALUES (p_quote, p_tenant, p_owner, p_sell, p_amount, p_buy, v_bought, clock_us() + p_life_us);
    RETURN close_step(p_key, p_body, clock_us(), v_outcome, p_quote, 1, NULL);
END $$;
