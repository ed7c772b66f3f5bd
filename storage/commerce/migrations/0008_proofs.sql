-- Keys that ended, and step-ups that were spent.

-- A key that ended has no hash; its row keeps the name, and the caller to whom idempotency keys belong.
ALTER TABLE api_keys ALTER COLUMN key_hash DROP NOT NULL;

-- The step-up of a platform is spent by one request, and may come again with that request until it ends.
CREATE TABLE spent_step_ups (
    step_up_id uuid PRIMARY KEY,  -- a digest of the tenant and of `jti`
    key_id     uuid NOT NULL,  -- of the request
    spent_us   bigint NOT NULL
);
CREATE INDEX spent_step_ups_by_age ON spent_step_ups (spent_us);
