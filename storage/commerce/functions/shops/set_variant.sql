-- A new variant of a product (`p_version` null) with no stock yet, or what it is now. CHANGED: it has another version.
-- SKU_TAKEN: another variant of the business has this article number.
CREATE FUNCTION set_variant(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_business uuid, p_product uuid, p_variant uuid, p_version int,
    p_sku text, p_name text, p_price bigint, p_tracked boolean, p_attributes jsonb, p_status smallint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v variants%ROWTYPE;
    v_outcome smallint := ${StepOutcome.DONE};
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    PERFORM FROM products p WHERE p.product_id = p_product AND p.business_id = p_business AND p.tenant_id = p_tenant
        FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        v_outcome := ${StepOutcome.PRODUCT_NOT_FOUND};
    ELSE
        SELECT x.* INTO v FROM variants x WHERE x.variant_id = p_variant AND x.product_id = p_product;
        IF p_version IS NOT NULL AND v.variant_id IS NULL THEN
            v_outcome := ${StepOutcome.PRODUCT_NOT_FOUND};
        ELSIF v.version IS DISTINCT FROM p_version THEN
            v_outcome := ${StepOutcome.CHANGED};
        ELSIF p_version IS NULL AND (SELECT count(*) FROM (SELECT FROM variants x WHERE x.product_id = p_product
                                                           LIMIT ${VARIANTS_MAX}) y) >= ${VARIANTS_MAX} THEN
            v_outcome := ${StepOutcome.SHOP_BOUND};
        END IF;
    END IF;
    IF v_outcome = ${StepOutcome.DONE} THEN
        v := (p_variant, p_product, p_business, p_tenant, p_sku, p_name, p_price, p_tracked, p_attributes, p_status,
              coalesce(v.version, 0) + 1, greatest(clock_us(), v.moved_us));
        BEGIN
            INSERT INTO variants SELECT v.*
            ON CONFLICT (variant_id) DO UPDATE SET sku = v.sku, name = v.name, price = v.price, tracked = v.tracked,
                attributes = v.attributes, status = v.status, version = v.version, moved_us = v.moved_us;
            INSERT INTO stock (variant_id, business_id, available, reserved, moved_us)
            VALUES (p_variant, p_business, 0, 0, v.moved_us) ON CONFLICT DO NOTHING;
        EXCEPTION WHEN unique_violation THEN
            v_outcome := ${StepOutcome.SKU_TAKEN};
        END;
    END IF;
    RETURN close_shop_step(p_key, p_body, p_actor, p_tenant, 'set_variant', v_outcome, p_variant, v.version,
                           concat_ws(' ', p_sku, p_price, p_status));
END $$;
