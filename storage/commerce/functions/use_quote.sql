-- Use a quote for the exchange that it says: its owner sells to the tenant and buys from it. The quote is locked,
-- `p_now_us` is the clock after the last lock.
CREATE FUNCTION use_quote(
    p_quote uuid, p_tenant smallint, p_now_us bigint, p_from uuid[], p_to uuid[], p_amount bigint[]
) RETURNS smallint
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v quotes%ROWTYPE;
BEGIN
    SELECT q.* INTO v FROM quotes q WHERE q.quote_id = p_quote AND q.tenant_id = p_tenant;
    IF NOT FOUND OR v.used_us IS NOT NULL OR p_now_us >= v.expires_us
       OR (p_from, p_to, p_amount) IS DISTINCT FROM (
        ARRAY[account_of(p_tenant, v.owner_id, v.sell_currency, ${Purpose.WALLET}::smallint),
              account_of(p_tenant, '${NIL}', v.buy_currency, ${Purpose.EXCHANGE}::smallint)],
        ARRAY[account_of(p_tenant, '${NIL}', v.sell_currency, ${Purpose.EXCHANGE}::smallint),
              account_of(p_tenant, v.owner_id, v.buy_currency, ${Purpose.WALLET}::smallint)],
        ARRAY[v.sell_amount, v.buy_amount]) THEN
        RETURN ${StepOutcome.QUOTE};
    END IF;
    UPDATE quotes SET used_us = p_now_us WHERE quote_id = p_quote;
    RETURN ${StepOutcome.DONE};
END $$;
