-- Webhooks: where the server posts the events of bots that hold no connection.
--
-- Nothing is queued: a webhook has a position in each dialog of its bot, and what lies behind it is in the timeline.
--
-- Invariants
--   * Events up to `webhook_positions.seq` were taken by the receiver, were given up, or are not the bot's business.
--   * The secret that signs is derived from a key of the deployment and `secret_no`; it is not stored.
--   * `failures` counts attempts in a row that failed, since `failing_since_ms`; a paused webhook is not attempted.

CREATE TABLE webhooks (
    principal_id     uuid PRIMARY KEY REFERENCES principals ON DELETE CASCADE,
    url              text NOT NULL CHECK (char_length(url) <= 2000),
    secret_no        int NOT NULL,
    sent             bigint NOT NULL DEFAULT 0,
    given_up         bigint NOT NULL DEFAULT 0,
    failures         int NOT NULL DEFAULT 0,
    failing_since_ms bigint,
    last_error       text NOT NULL DEFAULT '',
    next_at_ms       bigint NOT NULL DEFAULT 0,
    paused_at_ms     bigint
);

CREATE TABLE webhook_positions (
    principal_id uuid NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    dialog_id    uuid NOT NULL,
    seq          bigint NOT NULL,
    tries        int NOT NULL DEFAULT 0,
    next_at_ms   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (principal_id, dialog_id)
);
