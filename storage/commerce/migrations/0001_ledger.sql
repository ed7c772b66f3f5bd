-- Money: accounts, transfers between them, holds, limits, payments and their versions.
--
-- Invariants
--   * A transfer takes from one account what it gives to another; rows are only ever added. So all balances of a currency
--     sum up to zero, and the balance of an account is the fold of its transfers: `debit_after` and `credit_after` are the
--     balance of the slot after the transfer, written under its lock.
--   * Balances are credits minus debits. An account that is `floored` never falls below zero, but in the sum of its slots.
--   * An account has 1 slot, or 16 when many pay into it at once; its balance is the sum of its slots. A hold is an account
--     of its own (in `transfers` with the slot -1): what was held for one payment never pays another.
--   * A hold ends once. `at_us` never falls within a slot, and lies behind every closed period.
--   * A key has one final answer, also when that is a refusal.
--   * A payment's version is 1 at first and grows by 1; every version has its row in `payment_versions`, which is the audit
--     of payments, and one in `outbox` until it is announced.
-- Locks are taken class by class, each sorted: the period (shared), keys, payments and quotes, persons, slots. The clock is
-- read after the last one. Times are microseconds since 1970, amounts are minor units.

CREATE TYPE answer AS (outcome smallint, subject uuid, version int, detail bigint);

CREATE TABLE periods (
    period    int PRIMARY KEY,  -- a month in UTC: year * 100 + month
    ends_us   bigint NOT NULL,
    closed_us bigint NOT NULL
);

CREATE TABLE accounts (
    account_id uuid NOT NULL,
    slot       smallint NOT NULL CHECK (slot >= 0),
    slots      smallint NOT NULL,
    tenant_id  smallint NOT NULL,
    owner_id   uuid NOT NULL,
    currency   text NOT NULL,
    purpose    smallint NOT NULL,
    floored    boolean NOT NULL,
    limited    boolean NOT NULL,  -- payments out of it count against the limits of its owner, a person
    status     smallint NOT NULL,
    in_debt    boolean NOT NULL DEFAULT false,  -- the owner's `receivable` has a balance below zero
    balance    bigint NOT NULL DEFAULT 0,
    moved_us   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (account_id, slot),
    CHECK (balance >= 0 OR NOT floored OR slots > 1)
) WITH (fillfactor = 60);
CREATE INDEX accounts_of_owner ON accounts (owner_id) WHERE slot = 0;

CREATE TABLE transfers (
    transfer_no  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_us        bigint NOT NULL,
    debit_id     uuid NOT NULL,
    debit_slot   smallint NOT NULL,
    credit_id    uuid NOT NULL,
    credit_slot  smallint NOT NULL,
    amount       bigint NOT NULL CHECK (amount BETWEEN 1 AND 1000000000000000),
    currency     text NOT NULL,
    reason       smallint NOT NULL,
    subject_id   uuid NOT NULL,  -- the payment, withdrawal, top-up or chain that it belongs to
    reverses     bigint,
    debit_after  bigint NOT NULL,
    credit_after bigint NOT NULL,
    CHECK (debit_id <> credit_id)
);
CREATE INDEX transfers_by_debit ON transfers (debit_id, debit_slot, transfer_no) WHERE debit_slot >= 0;
CREATE INDEX transfers_by_credit ON transfers (credit_id, credit_slot, transfer_no) WHERE credit_slot >= 0;

-- How much of a transfer was taken back.
CREATE TABLE reversals (
    transfer_no bigint PRIMARY KEY,
    reversed    bigint NOT NULL CHECK (reversed > 0)
);

CREATE TABLE holds (
    hold_id    uuid PRIMARY KEY,
    account_id uuid NOT NULL,  -- whose money it is
    slot       smallint NOT NULL,
    currency   text NOT NULL,
    amount     bigint NOT NULL,
    balance    bigint NOT NULL CHECK (balance >= 0),
    state      smallint NOT NULL,
    person_id  uuid,  -- against whose limits it counts: `counted`, in the buckets that began at these times
    counted    bigint NOT NULL DEFAULT 0,
    day_us     bigint,
    month_us   bigint
) WITH (fillfactor = 70);
CREATE INDEX holds_open ON holds (account_id) WHERE balance > 0;

-- A person's limits in the reference currency of the tenant; null: none.
CREATE TABLE persons (
    person_id uuid PRIMARY KEY,
    tenant_id smallint NOT NULL,
    timezone  text NOT NULL,
    day_max   bigint,
    month_max bigint
);

CREATE TABLE limit_use (
    person_id uuid NOT NULL,
    span      smallint NOT NULL,
    starts_us bigint NOT NULL,
    ends_us   bigint NOT NULL,
    used      bigint NOT NULL CHECK (used >= 0),
    PRIMARY KEY (person_id, span, starts_us)
) WITH (fillfactor = 70);

-- Minor units of the reference currency for one minor unit of this one.
CREATE TABLE reference_rates (
    tenant_id smallint NOT NULL,
    currency  text NOT NULL,
    rate      numeric NOT NULL CHECK (rate > 0),
    PRIMARY KEY (tenant_id, currency)
);

-- The newest rule of a business, or of all (owner_id nil), holds for payments that begin after it.
CREATE TABLE fee_rules (
    rule_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id    smallint NOT NULL,
    owner_id     uuid NOT NULL,
    currency     text NOT NULL,
    basis_points int NOT NULL CHECK (basis_points BETWEEN 0 AND 10000),
    fixed        bigint NOT NULL CHECK (fixed >= 0),
    at_us        bigint NOT NULL
);
CREATE INDEX fee_rules_newest ON fee_rules (tenant_id, owner_id, currency, rule_id);

CREATE TABLE quotes (
    quote_id      uuid PRIMARY KEY,
    tenant_id     smallint NOT NULL,
    owner_id      uuid NOT NULL,
    sell_currency text NOT NULL,
    sell_amount   bigint NOT NULL,
    buy_currency  text NOT NULL,
    buy_amount    bigint NOT NULL,
    expires_us    bigint NOT NULL,
    used_us       bigint
);

CREATE TABLE payments (
    payment_id   uuid PRIMARY KEY,
    tenant_id    smallint NOT NULL,
    dialog_id    uuid,
    order_id     uuid,
    payer_id     uuid NOT NULL,
    payee_id     uuid NOT NULL,
    from_id      uuid NOT NULL,  -- the accounts
    to_id        uuid NOT NULL,
    from_slots   smallint NOT NULL,
    to_slots     smallint NOT NULL,
    currency     text NOT NULL,
    amount       bigint NOT NULL,
    capture_later boolean NOT NULL,
    hold_us      bigint NOT NULL,  -- for how long it is held at most
    basis_points int NOT NULL,  -- the fee, copied from the rule when the payment began
    fixed        bigint NOT NULL,
    expires_us   bigint NOT NULL,  -- of the request, then of the hold
    state        smallint NOT NULL,
    version      int NOT NULL,
    captured     bigint NOT NULL DEFAULT 0,
    fee          bigint NOT NULL DEFAULT 0,
    refunded     bigint NOT NULL DEFAULT 0,
    fee_returned bigint NOT NULL DEFAULT 0,
    disputed     bigint NOT NULL DEFAULT 0,
    moved_us     bigint NOT NULL,
    CHECK (payer_id <> payee_id AND captured <= amount AND refunded <= captured AND fee <= captured)
) WITH (fillfactor = 60);
CREATE INDEX payments_of_payer ON payments (payer_id, payment_id);
CREATE INDEX payments_of_payee ON payments (payee_id, payment_id);
CREATE INDEX payments_due ON payments (expires_us);

CREATE TABLE payment_versions (
    payment_id uuid NOT NULL,
    version    int NOT NULL,
    at_us      bigint NOT NULL,
    step       smallint NOT NULL,
    state      smallint NOT NULL,
    actor_id   uuid NOT NULL,
    captured   bigint NOT NULL,
    fee        bigint NOT NULL,
    refunded   bigint NOT NULL,
    PRIMARY KEY (payment_id, version)
);

CREATE TABLE outbox (
    outbox_no  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dialog_id  uuid,
    payment_id uuid NOT NULL,
    version    int NOT NULL
);

-- The answer to a step, by the digest of (tenant, caller, key). After 30 days only key and digests are left.
CREATE TABLE keys (
    key_id  uuid PRIMARY KEY,
    body    bytea NOT NULL,  -- a keyed digest of the request
    at_us   bigint NOT NULL,
    outcome smallint NOT NULL,
    subject uuid,
    version int,
    detail  bigint
);
CREATE INDEX keys_to_forget ON keys (at_us) WHERE subject IS NOT NULL;

CREATE TABLE audit (
    audit_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at_us      bigint NOT NULL,
    tenant_id  smallint NOT NULL,
    action     text NOT NULL,
    actor_id   uuid NOT NULL,
    subject_id uuid NOT NULL,
    detail     text NOT NULL DEFAULT ''
);
