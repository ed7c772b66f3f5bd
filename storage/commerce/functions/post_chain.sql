-- A chain of transfers, all or nothing: `detail` of a refusal is the place of the first that cannot be, from 1.
--
-- A leg may take back (part of) an earlier transfer, `p_reverses`: never more than it moved, and between the same accounts.
-- With `p_quote` the legs are those of its exchange, which uses the quote: once, before it expires.
CREATE FUNCTION post_chain(
    p_key uuid, p_body bytea, p_all boolean, p_actor uuid, p_tenant smallint, p_subject uuid, p_reason smallint,
    p_from uuid[], p_to uuid[], p_amount bigint[], p_reverses bigint[], p_quote uuid
) RETURNS answer
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_answer answer := open_step(p_key, p_body);
    v_ids uuid[];
    v_whole boolean[];
    v_locked record;
    v_outcome smallint := ${StepOutcome.DONE};
    v_leg int := 0;
BEGIN
    IF v_answer.outcome IS NOT NULL THEN
        RETURN v_answer;
    END IF;
    PERFORM FROM quotes q WHERE q.quote_id = p_quote FOR NO KEY UPDATE;
    PERFORM FROM transfers t WHERE t.transfer_no = ANY (p_reverses) ORDER BY t.transfer_no FOR NO KEY UPDATE;
    SELECT array_agg(w.account_id), array_agg(w.whole) INTO v_ids, v_whole FROM (
        SELECT u.account_id, bool_or(u.whole) AS whole FROM (
            SELECT a.account_id, a.floored AS whole FROM unnest(p_from) f(id)
            JOIN accounts a ON a.account_id = f.id AND a.slot = 0
            UNION ALL
            SELECT t.id, p_all FROM unnest(p_to) t(id)
            UNION ALL
            SELECT account_of(a.tenant_id, a.owner_id, a.currency, ${Purpose.RECEIVABLE}::smallint), true
            FROM unnest(p_to) t(id) JOIN accounts a ON a.account_id = t.id AND a.slot = 0 AND p_all
        ) u GROUP BY u.account_id) w;
    v_locked := lock_accounts(v_ids, v_whole);
    IF NOT p_all AND v_locked.in_debt && p_to THEN
        RETURN (${StepOutcome.AGAIN}, NULL, NULL, NULL)::answer;
    END IF;
    BEGIN
        IF p_quote IS NOT NULL THEN
            v_outcome := use_quote(p_quote, p_tenant, v_locked.now_us, p_from, p_to, p_amount);
        END IF;
        FOR i IN 1 .. cardinality(p_from) LOOP
            EXIT WHEN v_outcome <> ${StepOutcome.DONE};
            v_leg := i;
            v_outcome := judge_leg(p_tenant, p_from[i], p_to[i], p_amount[i], p_reverses[i]);
            IF v_outcome = ${StepOutcome.DONE} THEN
                PERFORM post(v_locked.at_us, a.currency, p_reason, p_subject, p_reverses[i],
                             p_from[i], v_locked.slot[array_position(v_ids, p_from[i])],
                             p_to[i], v_locked.slot[array_position(v_ids, p_to[i])], p_amount[i])
                FROM accounts a WHERE a.account_id = p_from[i] AND a.slot = 0;
                IF p_to[i] = ANY (v_locked.in_debt) THEN
                    PERFORM settle_debt(v_locked.at_us, a.currency, p_subject, p_to[i],
                                        v_locked.slot[array_position(v_ids, p_to[i])])
                    FROM accounts a WHERE a.account_id = p_to[i] AND a.slot = 0 AND a.in_debt;
                END IF;
            END IF;
        END LOOP;
        IF v_outcome <> ${StepOutcome.DONE} THEN
            RAISE EXCEPTION SQLSTATE '${CHAIN_REFUSED}';
        END IF;
    EXCEPTION WHEN SQLSTATE '${CHAIN_REFUSED}' THEN  -- takes back the legs before
        RETURN close_step(p_key, p_body, v_locked.now_us, v_outcome, NULL, NULL, v_leg);
    END;
    PERFORM note_audit(p_tenant, 'post_chain', p_actor, p_subject, concat_ws(' ', p_reason, cardinality(p_from)));
    RETURN close_step(p_key, p_body, v_locked.now_us, v_outcome, p_subject, 1, NULL);
END $$;
