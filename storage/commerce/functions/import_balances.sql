-- Post opening balances, each once under its own id: DONE also when it was posted before, KEY_REUSED when that was with another
-- body. What cannot be posted is not kept under its id: it may be mended and imported again. At most a chain's legs at once.
CREATE FUNCTION import_balances(
    p_actor uuid, p_tenant smallint, p_id uuid[], p_body bytea[], p_from uuid[], p_to uuid[], p_amount bigint[],
    OUT outcomes smallint[], OUT posted boolean[]
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_ids uuid[] := ARRAY(SELECT DISTINCT f.id FROM unnest(p_from) f(id));
    v_wallets uuid[] := ARRAY(SELECT DISTINCT x.id FROM unnest(p_to) t(id) JOIN accounts a ON a.account_id = t.id AND a.slot = 0
                              CROSS JOIN LATERAL (VALUES (a.account_id), (account_of(
                                  a.tenant_id, a.owner_id, a.currency, ${Purpose.RECEIVABLE}::smallint))) x(id));
    v_locked record;
    v_body bytea;
    v_currency text;
    v_slot smallint;
BEGIN
    PERFORM lock_keys(p_id);
    v_locked := lock_accounts(
        v_ids || v_wallets,
        array_fill(false, ARRAY[cardinality(v_ids)]) || array_fill(true, ARRAY[cardinality(v_wallets)]));
    v_ids := v_ids || v_wallets;
    FOR i IN 1 .. cardinality(p_id) LOOP
        SELECT k.body INTO v_body FROM keys k WHERE k.key_id = p_id[i];
        posted[i] := NOT FOUND;
        IF FOUND THEN
            outcomes[i] := CASE WHEN v_body = p_body[i] THEN ${StepOutcome.DONE} ELSE ${StepOutcome.KEY_REUSED} END;
            CONTINUE;
        END IF;
        outcomes[i] := judge_leg(p_tenant, p_from[i], p_to[i], p_amount[i], NULL);
        posted[i] := outcomes[i] = ${StepOutcome.DONE};
        CONTINUE WHEN NOT posted[i];
        SELECT a.currency INTO v_currency FROM accounts a WHERE a.account_id = p_to[i] AND a.slot = 0;
        v_slot := v_locked.slot[array_position(v_ids, p_to[i])];
        PERFORM post(v_locked.at_us, v_currency, ${TransferReason.OPENING_BALANCE}::smallint, p_id[i], NULL, p_from[i],
                     v_locked.slot[array_position(v_ids, p_from[i])], p_to[i], v_slot, p_amount[i]);
        IF (SELECT a.in_debt FROM accounts a WHERE a.account_id = p_to[i] AND a.slot = 0) THEN
            PERFORM settle_debt(v_locked.at_us, v_currency, p_id[i], p_to[i], v_slot);
        END IF;
        PERFORM close_step(p_id[i], p_body[i], v_locked.now_us, ${StepOutcome.DONE}::smallint, p_id[i], 1, NULL);
    END LOOP;
    IF true = ANY (posted) THEN
        PERFORM note_audit(p_tenant, 'import_balances', p_actor, '${NIL}', cardinality(array_positions(posted, true))::text);
    END IF;
END $$;
