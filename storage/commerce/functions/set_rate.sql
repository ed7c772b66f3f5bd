-- Set the rate of an exchange; without a currency that is bought, the rate to the reference currency of limits.
CREATE FUNCTION set_rate(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_sell text, p_buy text, p_rate numeric
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    IF p_buy IS NULL THEN
        INSERT INTO reference_rates (tenant_id, currency, rate) VALUES (p_tenant, p_sell, p_rate)
        ON CONFLICT (tenant_id, currency) DO UPDATE SET rate = excluded.rate;
    ELSE
        INSERT INTO exchange_rates (tenant_id, sell_currency, buy_currency, rate) VALUES (p_tenant, p_sell, p_buy, p_rate)
        ON CONFLICT (tenant_id, sell_currency, buy_currency) DO UPDATE SET rate = excluded.rate;
    END IF;
    PERFORM note_audit(p_tenant, 'set_rate', p_actor, '${NIL}', concat_ws(' ', p_sell, p_buy, p_rate));
    RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.DONE}::smallint, '${NIL}', 1, NULL);
END $$;
