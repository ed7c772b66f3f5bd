-- Whether a refund at the gateway is under way, whatever else has happened to the payment meanwhile. It is locked.
CREATE FUNCTION is_refunding(p payments) RETURNS boolean
LANGUAGE sql STABLE
AS $$
    SELECT count(*) FILTER (WHERE w.step = ${PaymentStep.REFUND_AT_GATEWAY})
           > count(*) FILTER (WHERE w.step IN (${PaymentStep.REFUND_CONFIRMED}, ${PaymentStep.REFUND_REFUSED}))
    FROM payment_versions w WHERE w.payment_id = p.payment_id
$$;
