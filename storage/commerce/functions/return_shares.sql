-- Take back from the shares what `owed_shares` says, into `p_slot` of the payee. All accounts are locked and have it.
CREATE FUNCTION return_shares(p payments, p_at_us bigint, p_net bigint, p_slot smallint) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v record;
BEGIN
    FOR v IN SELECT o.* FROM owed_shares(p, p_net) o WHERE o.part > 0 LOOP
        PERFORM post(p_at_us, p.currency, ${TransferReason.SHARE_RETURNED}::smallint, p.payment_id, NULL,
                     v.account_id, (pg_backend_pid() % v.slots)::smallint, p.to_id, p_slot, v.part);
        UPDATE payment_shares s SET returned = s.returned + v.part WHERE s.payment_id = p.payment_id AND s.place = v.place;
    END LOOP;
END $$;
