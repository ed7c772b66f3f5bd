-- Rotate a refresh token. The node derives the successor from the token, so a client that lost the answer and soon
-- retries gets the same one, as long as that has not been used: the chain never forks.
CREATE FUNCTION refresh_sign_in(
    p_now_ms bigint, p_token_hash bytea, p_next_hash bytea, p_address text, p_expires_at_ms bigint, p_grace_ms bigint,
    OUT outcome smallint, OUT principal_id uuid, OUT device_id uuid, OUT sign_in_id uuid, OUT tenant_id smallint
)
LANGUAGE plpgsql VOLATILE
AS $$
#variable_conflict use_column
DECLARE
    v_token refresh_tokens%ROWTYPE;
    v_next refresh_tokens%ROWTYPE;
    v_sign_in sign_ins%ROWTYPE;
    v_status smallint;
BEGIN
    SELECT t.* INTO v_token FROM refresh_tokens t WHERE t.token_hash = p_token_hash FOR UPDATE;
    IF v_token.token_hash IS NULL THEN
        outcome := ${Outcome.UNKNOWN};
        RETURN;
    END IF;
    SELECT s.* INTO v_sign_in FROM sign_ins s WHERE s.sign_in_id = v_token.sign_in_id FOR NO KEY UPDATE;
    SELECT p.status INTO v_status FROM principals p WHERE p.principal_id = v_sign_in.principal_id;
    sign_in_id := v_sign_in.sign_in_id;
    principal_id := v_sign_in.principal_id;
    device_id := v_sign_in.device_id;
    tenant_id := v_sign_in.tenant_id;

    SELECT t.* INTO v_next FROM refresh_tokens t WHERE t.token_hash = p_next_hash;
    outcome := CASE
        WHEN v_sign_in.revoked_at_ms IS NOT NULL OR v_status = ${PrincipalStatus.DELETED} THEN ${Outcome.ENDED}
        WHEN v_token.used_at_ms IS NOT NULL AND (
            v_next.token_hash IS NULL OR v_next.used_at_ms IS NOT NULL
            OR p_now_ms > v_token.used_at_ms + p_grace_ms) THEN ${Outcome.REUSED}
        WHEN v_sign_in.expires_at_ms <= p_now_ms THEN ${Outcome.EXPIRED}
        WHEN v_status = ${PrincipalStatus.SUSPENDED} THEN ${Outcome.SUSPENDED}
        ELSE ${Outcome.OK} END;
    IF outcome = ${Outcome.REUSED} THEN
        UPDATE sign_ins s SET revoked_at_ms = p_now_ms, revoked_why = ${EndReason.TOKEN_REUSED}
        WHERE s.sign_in_id = v_token.sign_in_id;
        PERFORM note_audit(p_now_ms, tenant_id, 'sign_in.token_reused', principal_id, principal_id, sign_in_id);
    ELSIF outcome = ${Outcome.OK} AND v_token.used_at_ms IS NULL THEN
        UPDATE refresh_tokens t SET used_at_ms = p_now_ms WHERE t.token_hash = p_token_hash;
        INSERT INTO refresh_tokens VALUES (p_next_hash, v_token.sign_in_id, p_now_ms);
        UPDATE sign_ins s SET last_used_at_ms = p_now_ms, address = p_address, expires_at_ms = p_expires_at_ms
        WHERE s.sign_in_id = v_token.sign_in_id;
    END IF;
END $$;
