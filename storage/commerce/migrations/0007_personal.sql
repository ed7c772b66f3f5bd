-- What is personal of people: sealed items, exports, erasures. No text of a person is in a column.
--
-- Invariants
--   * An item is sealed under a key that is not in this database. `personal_keys` says whose key an id is, and no more.
--   * Everything is of a person in one tenant: another tenant with the same id has rows of its own.
--   * A person has at most one key of a kind that is not erased. What is sealed under a key is written only while it is not.
--   * An erasure is final: who is erased gets no further profile key, and nothing is stored under one of before.
--   * A key is erased here first (`erased_us`), with all that is sealed under it, and then in the key store (`gone`).
-- Everything about one person is done under the lock of that person, after keys and before accounts.

CREATE TABLE personal_store (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    store_id uuid NOT NULL  -- the key store that this database was written with
);

CREATE TABLE personal_keys (
    key_id    uuid PRIMARY KEY,
    tenant_id smallint NOT NULL,
    person_id uuid NOT NULL,
    key_kind  smallint NOT NULL,
    erased_us bigint,
    gone      boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX personal_keys_present ON personal_keys (tenant_id, person_id, key_kind) WHERE erased_us IS NULL;
CREATE INDEX personal_keys_erased ON personal_keys (key_id) WHERE erased_us IS NOT NULL;
CREATE INDEX personal_keys_to_erase ON personal_keys (erased_us) WHERE erased_us IS NOT NULL AND NOT gone;

CREATE TABLE personal_items (
    item_id    uuid PRIMARY KEY,
    tenant_id  smallint NOT NULL,
    person_id  uuid NOT NULL,
    kind       smallint NOT NULL,
    key_id     uuid NOT NULL,
    subject_id uuid,  -- the order that a legal copy is about
    version    int NOT NULL,
    at_us      bigint NOT NULL,
    keep_us    bigint,  -- of what the law wants kept: for how long
    keep_until bigint,  -- until when; null: until the person is erased, or for ever under the profile key
    sealed     bytea NOT NULL CHECK (octet_length(sealed) <= 16384)
);
CREATE INDEX personal_items_of_person ON personal_items (tenant_id, person_id, kind, item_id);
CREATE INDEX personal_items_past ON personal_items (keep_until) WHERE keep_until IS NOT NULL;

CREATE TABLE personal_erasures (
    erasure_id uuid PRIMARY KEY,
    tenant_id  smallint NOT NULL,
    person_id  uuid NOT NULL,
    at_us      bigint NOT NULL,
    UNIQUE (tenant_id, person_id)
);

CREATE TABLE exports (
    export_id  uuid PRIMARY KEY,
    tenant_id  smallint NOT NULL,
    person_id  uuid NOT NULL,
    key_id     uuid NOT NULL,
    at_us      bigint NOT NULL,
    expires_us bigint NOT NULL,
    parts      int NOT NULL DEFAULT 0,
    reached    text,  -- where its next part begins; null: it is complete
    look_us    bigint  -- when its next part is made; null: it is complete
);
CREATE UNIQUE INDEX exports_of_person ON exports (tenant_id, person_id);
CREATE INDEX exports_past ON exports (expires_us);
CREATE INDEX exports_to_make ON exports (look_us) WHERE look_us IS NOT NULL;

CREATE TABLE export_parts (
    export_id uuid NOT NULL,
    part      int NOT NULL,
    sealed    bytea NOT NULL,
    PRIMARY KEY (export_id, part)
);
