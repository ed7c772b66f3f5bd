-- Lock an intent, and before it the payment that it names; all null if this gateway has no such intent.
CREATE FUNCTION lock_intent(p_tenant smallint, p_gateway text, p_intent uuid) RETURNS intents
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v intents%ROWTYPE;
BEGIN
    PERFORM FROM payments p
    WHERE p.payment_id = (SELECT i.payment_id FROM intents i WHERE i.intent_id = p_intent) FOR NO KEY UPDATE;
    SELECT i.* INTO v FROM intents i
    WHERE i.intent_id = p_intent AND i.tenant_id = p_tenant AND i.gateway = p_gateway FOR NO KEY UPDATE;
    RETURN v;
END $$;
