-- The core: principals, dialogs, members, and the journal that orders and keeps their timelines.
--
-- Invariants
--   * `heads.seq` is the newest number of a dialog; its row's lock is the only lock of a flush, and every
--     append happens under it, so numbers are dense and become visible in their order.
--   * `journal.xid` is the transaction that wrote a row. A snapshot with horizon H sees every row with `xid < H`,
--     and within a dialog every row before such a row.
--   * `authors.last_n` is the highest `n` a device has had accepted in a dialog.
--   * `members.visible` are the numbers a member may read; its last interval is open while they are one.

CREATE TABLE deployment (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch    bigint NOT NULL
);
INSERT INTO deployment (epoch) VALUES ((extract(epoch FROM clock_timestamp()) * 1000)::bigint);

CREATE TABLE incarnations (
    incarnation   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    node          text NOT NULL,
    started_at_ms bigint NOT NULL
);

CREATE TABLE tenants (
    tenant_id smallint PRIMARY KEY,
    name      text NOT NULL UNIQUE
);
INSERT INTO tenants VALUES (1, 'default');

CREATE TABLE principals (
    principal_id  uuid PRIMARY KEY,
    tenant_id     smallint NOT NULL REFERENCES tenants,
    type          smallint NOT NULL,
    status        smallint NOT NULL DEFAULT 1,
    admin         boolean NOT NULL DEFAULT false,
    external_id   text,
    created_at_ms bigint NOT NULL,
    deleted_at_ms bigint,
    UNIQUE (tenant_id, external_id)
);

CREATE TABLE sign_ins (
    sign_in_id      uuid PRIMARY KEY,
    principal_id    uuid NOT NULL REFERENCES principals ON DELETE CASCADE,
    device_id       uuid NOT NULL,
    tenant_id       smallint NOT NULL,
    created_at_ms   bigint NOT NULL,
    last_used_at_ms bigint NOT NULL,
    address         text NOT NULL DEFAULT '',
    revoked_at_ms   bigint,
    revoked_why     smallint
);
CREATE INDEX sign_ins_of_principal ON sign_ins (principal_id, created_at_ms);

CREATE TABLE blocks (
    blocked_id uuid NOT NULL,
    blocker_id uuid NOT NULL,
    PRIMARY KEY (blocked_id, blocker_id)
);

-- The rules of `protocol.dialog_types`, written by every node at its start.
CREATE TABLE dialog_types (
    type          smallint PRIMARY KEY,
    members_min   int NOT NULL,
    members_max   int NOT NULL,
    fixed_roster  boolean NOT NULL,
    full_history  boolean NOT NULL,
    receipts      boolean NOT NULL
);

CREATE TABLE dialogs (
    dialog_id              uuid PRIMARY KEY,
    name                   text NOT NULL,
    description            text NOT NULL,
    avatar_url             text NOT NULL,
    is_public              boolean NOT NULL,
    allow_media            boolean NOT NULL,
    message_retention_days int NOT NULL,
    moderation_enabled     boolean NOT NULL,
    created_by             uuid NOT NULL,
    created_at_ms          bigint NOT NULL
);

-- Hot and narrow: updated by every flush, never indexed beyond its key (heap-only updates).
CREATE TABLE heads (
    dialog_id    uuid PRIMARY KEY,
    tenant_id    smallint NOT NULL,
    type         smallint NOT NULL,
    mode         smallint NOT NULL,
    admins_only  boolean NOT NULL,
    seq          bigint NOT NULL,
    messages     bigint NOT NULL,
    roster_seq   bigint NOT NULL,
    keys_seq     bigint NOT NULL,
    member_count int NOT NULL,
    admin_count  int NOT NULL,
    xid          xid8 NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);

CREATE TABLE members (
    dialog_id      uuid NOT NULL,
    principal_id   uuid NOT NULL,
    role           smallint NOT NULL,
    member         boolean NOT NULL,
    visible        int8multirange NOT NULL,
    from_seq       bigint NOT NULL,
    joined_at_ms   bigint NOT NULL,
    muted_until_ms bigint NOT NULL DEFAULT 0,
    delivered      bigint NOT NULL DEFAULT 0,
    read           bigint NOT NULL DEFAULT 0,
    read_messages  bigint NOT NULL DEFAULT 0,
    xid            xid8 NOT NULL DEFAULT pg_current_xact_id(),
    PRIMARY KEY (dialog_id, principal_id)
) WITH (fillfactor = 80);
-- With the dialog in it, a lookup by both costs one row by either index, whichever a plan made early has picked.
CREATE INDEX members_of_principal ON members (principal_id, dialog_id);

-- When anybody's receipts in a dialog last changed: what a sync asks, without touching the hot heads.
CREATE TABLE mark_heads (
    dialog_id uuid PRIMARY KEY,
    xid       xid8 NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE authors (
    dialog_id uuid NOT NULL,
    device_id uuid NOT NULL,
    last_n    bigint NOT NULL,
    PRIMARY KEY (dialog_id, device_id)
) WITH (fillfactor = 50);

-- `tag` is the tag of the body; `target` the number it is about (of a posted envelope: what it replies to).
CREATE TABLE journal (
    dialog_id     uuid NOT NULL,
    seq           bigint NOT NULL,
    author_id     uuid NOT NULL,
    device_id     uuid NOT NULL,
    n             bigint NOT NULL,
    tag           smallint NOT NULL,
    target        bigint,
    at_ms         bigint NOT NULL,
    messages      bigint NOT NULL,
    expires_at_ms bigint,
    incarnation   bigint NOT NULL,
    flush_no      bigint NOT NULL,
    xid           xid8 NOT NULL DEFAULT pg_current_xact_id(),
    body          bytea NOT NULL,
    PRIMARY KEY (dialog_id, seq)
);
-- Ciphertext does not compress: keep large bodies out of line and do not try.
ALTER TABLE journal ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX journal_of_author ON journal (dialog_id, device_id, n);
CREATE INDEX journal_of_target ON journal (dialog_id, target) WHERE tag IN (2, 3, 4);
-- What a dialog was called when somebody was removed from it.
CREATE INDEX journal_of_settings ON journal (dialog_id, seq) WHERE tag IN (10, 16);
