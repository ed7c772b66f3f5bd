-- A new product (`p_version` null), or what it is now. CHANGED: it has another version. Its currency stays: its variants have
-- prices in it.
CREATE FUNCTION set_product(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_business uuid, p_product uuid, p_version int, p_name text,
    p_description text, p_category text, p_currency text, p_tax_basis_points int, p_ships boolean, p_images text[],
    p_attributes jsonb, p_status smallint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v products%ROWTYPE;
    v_outcome smallint := ${StepOutcome.DONE};
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    SELECT p.* INTO v FROM products p
    WHERE p.product_id = p_product AND p.business_id = p_business AND p.tenant_id = p_tenant FOR NO KEY UPDATE;
    IF NOT EXISTS (SELECT FROM businesses b WHERE b.business_id = p_business AND b.tenant_id = p_tenant) THEN
        v_outcome := ${StepOutcome.BUSINESS_NOT_FOUND};
    ELSIF p_version IS NOT NULL AND v.product_id IS NULL THEN
        v_outcome := ${StepOutcome.PRODUCT_NOT_FOUND};
    ELSIF v.version IS DISTINCT FROM p_version THEN
        v_outcome := ${StepOutcome.CHANGED};
    ELSIF v.currency <> p_currency OR NOT EXISTS (SELECT FROM businesses b WHERE b.business_id = p_business
                                                                           AND p_currency = ANY (b.currencies)) THEN
        v_outcome := ${StepOutcome.CURRENCY};
    ELSE
        v := (p_product, p_business, p_tenant, p_name, p_description, p_category, p_currency, p_tax_basis_points, p_ships,
              p_images, p_attributes, p_status, coalesce(v.version, 0) + 1, greatest(clock_us(), v.moved_us));
        INSERT INTO products SELECT v.*
        ON CONFLICT (product_id) DO UPDATE SET name = v.name, description = v.description, category = v.category,
            tax_basis_points = v.tax_basis_points, ships = v.ships, images = v.images, attributes = v.attributes,
            status = v.status, version = v.version, moved_us = v.moved_us;
    END IF;
    RETURN close_shop_step(p_key, p_body, p_actor, p_tenant, 'set_product', v_outcome, p_product, v.version, p_status::text);
END $$;
