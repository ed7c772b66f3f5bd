-- Where versions of payments are announced.
CREATE FUNCTION places_of(p_payment uuid[], p_version int[])
RETURNS TABLE (payment_id uuid, version int, tenant_id smallint, is_self boolean, subject_id uuid)
LANGUAGE sql STABLE
AS $$
    SELECT t.payment_id, t.version, p.tenant_id, s.is_self, s.subject_id
    FROM unnest(p_payment, p_version) AS t(payment_id, version)
    JOIN payments p ON p.payment_id = t.payment_id
    JOIN payment_versions v ON v.payment_id = t.payment_id AND v.version = t.version
    CROSS JOIN LATERAL (VALUES (false, p.dialog_id), (true, p.payer_id), (true, p.payee_id)) AS s(is_self, subject_id)
    WHERE s.subject_id IS NOT NULL
      AND (s.is_self OR (v.state <> ${PaymentState.DISPUTED} AND v.step NOT IN (${PaymentStep.DISPUTE_WON}, ${PaymentStep.DISPUTE_LOST})))
$$;
