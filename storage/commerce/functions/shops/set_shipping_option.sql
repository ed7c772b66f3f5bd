-- A new way of shipping (`p_version` null), or what it costs now. CHANGED: it has another version.
CREATE FUNCTION set_shipping_option(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_business uuid, p_option uuid, p_version int, p_name text,
    p_currency text, p_price bigint, p_tax_basis_points int, p_status smallint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v shipping_options%ROWTYPE;
    v_outcome smallint := ${StepOutcome.DONE};
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    PERFORM FROM businesses b WHERE b.business_id = p_business AND b.tenant_id = p_tenant FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        v_outcome := ${StepOutcome.BUSINESS_NOT_FOUND};
    ELSE
        SELECT o.* INTO v FROM shipping_options o WHERE o.option_id = p_option AND o.business_id = p_business;
        IF v.version IS DISTINCT FROM p_version THEN
            v_outcome := ${StepOutcome.CHANGED};
        ELSIF p_version IS NULL AND (SELECT count(*) FROM (SELECT FROM shipping_options o WHERE o.business_id = p_business
                                                           LIMIT ${SHIPPING_OPTIONS_MAX}) y) >= ${SHIPPING_OPTIONS_MAX} THEN
            v_outcome := ${StepOutcome.SHOP_BOUND};
        ELSE
            v := (p_option, p_business, p_name, p_currency, p_price, p_tax_basis_points, p_status, coalesce(v.version, 0) + 1);
            INSERT INTO shipping_options SELECT v.*
            ON CONFLICT (option_id) DO UPDATE SET name = v.name, currency = v.currency, price = v.price,
                tax_basis_points = v.tax_basis_points, status = v.status, version = v.version;
        END IF;
    END IF;
    RETURN close_shop_step(p_key, p_body, p_actor, p_tenant, 'set_shipping_option', v_outcome, p_option, v.version,
                           concat_ws(' ', p_price, p_status));
END $$;
