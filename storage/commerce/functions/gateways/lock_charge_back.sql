-- Lock all that a chargeback may move: the person and the accounts of the top-up and of the payment (null: none) that it paid.
-- Locks are taken class by class, so what its steps lock on their way is locked here.
CREATE FUNCTION lock_charge_back(
    v intents, p payments, p_clearing uuid, OUT at_us bigint, OUT slot smallint[], OUT in_debt uuid[]
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_shares uuid[] := share_accounts(p);
BEGIN
    PERFORM FROM persons w WHERE w.person_id = p.payer_id FOR NO KEY UPDATE;
    SELECT l.at_us, l.slot, l.in_debt INTO at_us, slot, in_debt FROM lock_accounts(
        ARRAY[p_clearing, v.wallet_id, account_of(v.tenant_id, v.owner_id, v.currency, ${Purpose.RECEIVABLE}::smallint),
              account_of(v.tenant_id, gateway_owner(v.gateway), v.currency, ${Purpose.SUSPENSE}::smallint),
              p.to_id, account_of(v.tenant_id, p.payee_id, v.currency, ${Purpose.RECEIVABLE}::smallint),
              CASE WHEN p.payment_id IS NOT NULL
                   THEN account_of(v.tenant_id, '${NIL}', v.currency, ${Purpose.FEES}::smallint) END] || v_shares,
        ARRAY[false, true, true, false, true, true, false] || array_fill(true, ARRAY[cardinality(v_shares)])) l;
END $$;
