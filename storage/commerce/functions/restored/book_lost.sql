-- Book a payment that was told, and that the books do not know, as cancelled: above the version that was told.
CREATE FUNCTION book_lost(
    p_payment uuid, p_told int, p_tenant smallint, p_dialog uuid, p_order uuid, p_payer uuid, p_payee uuid,
    p_currency text, p_amount bigint, p_now_us bigint
) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v payments%ROWTYPE;
BEGIN
    INSERT INTO payments (payment_id, tenant_id, dialog_id, order_id, payer_id, payee_id, from_id, to_id, from_slots, to_slots,
                          currency, amount, capture_later, hold_us, basis_points, fixed, expires_us, state, version, moved_us)
    VALUES (p_payment, p_tenant, p_dialog, p_order, p_payer, p_payee,
            account_of(p_tenant, p_payer, p_currency, ${Purpose.WALLET}::smallint),
            account_of(p_tenant, p_payee, p_currency, ${Purpose.WALLET}::smallint), 1, 1,
            p_currency, p_amount, false, 0, 0, 0, p_now_us, ${PaymentState.CANCELLED}, p_told + 1, p_now_us)
    RETURNING * INTO v;
    PERFORM note_version(v, ${PaymentStep.RESTORE}::smallint, '${NIL}');
END $$;
