-- The fee for payments to an owner that begin from now on; the nil owner: to all that have no rule of their own.
CREATE FUNCTION set_fee_rule(
    p_key uuid, p_body bytea, p_actor uuid, p_tenant smallint, p_owner uuid, p_currency text, p_basis_points int,
    p_fixed bigint
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    PERFORM open_account(p_actor, p_tenant, '${NIL}', p_currency, ${Purpose.FEES}::smallint, ${SLOTS_SHARED}::smallint, false,
                         NULL, NULL, NULL);  -- a fee has where to go
    INSERT INTO fee_rules (tenant_id, owner_id, currency, basis_points, fixed, at_us)
    VALUES (p_tenant, p_owner, p_currency, p_basis_points, p_fixed, clock_us());
    PERFORM note_audit(p_tenant, 'set_fee_rule', p_actor, p_owner, concat_ws(' ', p_currency, p_basis_points, p_fixed));
    RETURN close_step(p_key, p_body, clock_us(), ${StepOutcome.DONE}::smallint, p_owner, 1, NULL);
END $$;
