-- Note a page of what the chat was told in a place, newest first. `p_last_n`, with the last page: numbers go on above it.
--
-- What was told is announced: none of it is announced again, and later versions are not judged as their requester. A number
-- that is not above what was told of that payment is answered. False, and nothing noted, if the books serve.
CREATE FUNCTION note_told(
    p_tenant smallint, p_is_self boolean, p_subject uuid, p_last_n bigint,
    p_payment uuid[], p_version int[], p_n bigint[], p_state smallint[], p_payer uuid[], p_payee uuid[],
    p_currency text[], p_amount bigint[], p_dialog uuid[], p_order uuid[]
) RETURNS boolean
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_place bigint;
BEGIN
    IF books_serve() THEN
        RETURN false;
    END IF;
    INSERT INTO places (tenant_id, is_self, subject_id) VALUES (p_tenant, p_is_self, p_subject) ON CONFLICT DO NOTHING;
    SELECT p.place_no INTO v_place FROM places p
    WHERE p.tenant_id = p_tenant AND p.subject_id = p_subject AND p.is_self = p_is_self FOR NO KEY UPDATE;
    INSERT INTO told_versions (payment_id, version, is_self, subject_id, tenant_id, n, state, payer_id, payee_id, currency,
                               amount, dialog_id, order_id)
    SELECT DISTINCT ON (t.payment_id, t.version) t.payment_id, t.version, p_is_self, p_subject, p_tenant, t.n, t.state,
           t.payer_id, t.payee_id, t.currency, t.amount, CASE WHEN p_is_self THEN t.dialog_id ELSE p_subject END, t.order_id
    FROM unnest(p_payment, p_version, p_n, p_state, p_payer, p_payee, p_currency, p_amount, p_dialog, p_order)
        AS t(payment_id, version, n, state, payer_id, payee_id, currency, amount, dialog_id, order_id)
    ORDER BY t.payment_id, t.version
    ON CONFLICT (payment_id, version, is_self, subject_id) DO UPDATE SET n = excluded.n, open = true;
    INSERT INTO announcements AS a (place_no, payment_id, version, since_us, done, admitted)
    SELECT v_place, t.payment_id, max(t.version), clock_us(), max(t.version), true
    FROM unnest(p_payment, p_version) AS t(payment_id, version) GROUP BY t.payment_id
    ON CONFLICT (place_no, payment_id) DO UPDATE SET
        version = greatest(a.version, excluded.version),
        done = greatest(a.done, excluded.done),
        admitted = true,
        refused = NULL,
        n = CASE WHEN a.sent > excluded.done THEN a.n END,
        sent = CASE WHEN a.sent > excluded.done THEN a.sent END,
        expires_us = CASE WHEN a.sent > excluded.done THEN a.expires_us END;
    UPDATE places p SET last_n = greatest(p.last_n, p_last_n) WHERE p.place_no = v_place;
    RETURN true;
END $$;
