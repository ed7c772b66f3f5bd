-- Until when a posted envelope must be kept, because of its kind (the third byte of its body); null: no such time.
CREATE FUNCTION kept_until(p_body bytea, p_at_ms bigint) RETURNS bigint
LANGUAGE sql IMMUTABLE
AS $$
    SELECT p_at_ms + k.kept_ms FROM (VALUES ${KEPT_KINDS}) AS k(kind, kept_ms) WHERE k.kind = substr(p_body, 3, 1)
$$;
