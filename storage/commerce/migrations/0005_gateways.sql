-- Money that comes and goes over payment gateways.
--
-- Invariants
--   * An intent is committed before its call. Its id is the reference of the call, and its state follows the table
--     `NEXT_OF_INTENT`.
--   * An effect of an object is applied once: its row and its transfers are one step. What it fits is judged then.
--   * The clearing account of a gateway and currency has the sum of all effects, below zero: what the gateway owes us.
--   * What leaves over a gateway is in a hold of the intent's id until the gateway has paid, or has not.
--   * A suspense item has the money of one effect that fits nothing: above zero it is ours to give to somebody, below zero
--     the gateway took it and nobody was charged with it.
-- An intent is locked after its payment, both before persons.

CREATE TABLE intents (
    intent_id  uuid PRIMARY KEY,
    kind       smallint NOT NULL,
    tenant_id  smallint NOT NULL,
    owner_id   uuid NOT NULL,
    gateway    text NOT NULL,
    wallet_id  uuid NOT NULL,  -- what is topped up or paid out; of a refund, the payee's
    payment_id uuid,
    version    int,  -- of the payment, as its payer approved it, and whom they pay
    payee_id   uuid,
    amount     bigint NOT NULL CHECK (amount BETWEEN 1 AND 1000000000000000),
    fee        bigint NOT NULL DEFAULT 0,  -- of a refund: the part of the amount that the platform gives
    currency   text NOT NULL,
    method     text NOT NULL,
    token      text,  -- the gateway's, of a card or an account; of a refund, the object that is paid back
    life_s     int,  -- of a QR code
    state      smallint NOT NULL,
    written_us bigint NOT NULL,
    moved_us   bigint NOT NULL,
    settled_us bigint NOT NULL DEFAULT 0,  -- when the last call has ended for certain
    due_us     bigint,  -- when to go on with it: now, or when its lease ends; null: objects decide
    lease      int NOT NULL DEFAULT 0,
    failures   int NOT NULL DEFAULT 0,
    object_id  text,
    money_id   text,  -- the object under which the money of a top-up is
    fulfils    boolean NOT NULL DEFAULT false,  -- the payment was approved with this money
    qr         text,
    expires_us bigint,
    reason     text
) WITH (fillfactor = 70);
CREATE INDEX intents_of_owner ON intents (owner_id, kind, intent_id);
CREATE INDEX intents_due ON intents (gateway, due_us) WHERE due_us IS NOT NULL;
CREATE INDEX intents_open ON intents (gateway, written_us) WHERE state IN (1, 2, 3);
CREATE UNIQUE INDEX intents_fulfilling ON intents (payment_id) WHERE fulfils;

CREATE TABLE gateway_effects (
    gateway   text NOT NULL,
    object_id text NOT NULL,
    effect    smallint NOT NULL,
    tenant_id smallint NOT NULL,
    intent_id uuid,
    currency  text NOT NULL,
    change    bigint NOT NULL,
    used      smallint NOT NULL,
    at_us     bigint NOT NULL,
    PRIMARY KEY (gateway, object_id, effect)
);

CREATE TABLE suspense (
    suspense_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id   smallint NOT NULL,
    gateway     text NOT NULL,
    object_id   text NOT NULL,
    effect      smallint NOT NULL,
    intent_id   uuid,  -- what the object was for, if anything
    currency    text NOT NULL,
    amount      bigint NOT NULL,
    at_us       bigint NOT NULL,
    released_us bigint,
    wallet_id   uuid
);
CREATE INDEX suspense_open ON suspense (tenant_id, suspense_id) WHERE released_us IS NULL;

-- Up to where the objects of a gateway were read by their last change.
CREATE TABLE gateway_cursors (
    gateway  text PRIMARY KEY,
    read_ms  bigint NOT NULL,
    lease    int NOT NULL DEFAULT 0,
    due_us   bigint NOT NULL
);

-- What webhooks said: objects to fetch. One row for each object; who fetched it deletes what was not noted again.
CREATE TABLE gateway_hints (
    gateway   text NOT NULL,
    kind      text NOT NULL,
    object_id text NOT NULL,
    noted     int NOT NULL DEFAULT 1,
    failures  int NOT NULL DEFAULT 0,
    due_us    bigint NOT NULL,
    PRIMARY KEY (gateway, kind, object_id)
) WITH (fillfactor = 70);
CREATE INDEX gateway_hints_due ON gateway_hints (gateway, due_us);

-- Bodies of webhooks, sealed; for seven days.
CREATE TABLE webhook_bodies (
    body_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    gateway text NOT NULL,
    at_us   bigint NOT NULL,
    sealed  bytea NOT NULL
);
CREATE INDEX webhook_bodies_to_forget ON webhook_bodies (at_us);
