-- After a restore the books are read-only until they are reconciled with what was told, and an operator accepts them.
--
-- Invariants
--   * `book_history` names the history of transactions that the books go on in, and the PostgreSQL process for which that
--     was compared last: in another process, or another table, nothing is written before it is compared again
--     (`books_serve`). So a step after a restore or a promotion is refused whoever sends it, over whichever connection.
--   * While `noticed_us` is set no step is taken, nothing expires, and nothing is announced. From `told_us` on connections
--     that say so take steps (`RECONCILING_SETTINGS`): they apply what gateways have done since.
--   * `told_versions` has what the chat was told that the books did not know when it was read back, by place.
--   * A number of a place is raised (`places.last_n`) together with the last page that was read of it. So a reading that
--     was cut short begins that place again.
CREATE TABLE book_history (
    only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    system_identifier bigint,  -- null: no step was taken yet
    timeline_id       bigint,
    started_at        timestamptz,  -- of the PostgreSQL process
    table_oid         oid,  -- of this table: a dump that is loaded again makes another one
    synchronous       boolean NOT NULL DEFAULT false,  -- a promoted standby lacks nothing, says the operator
    noticed_us        bigint,  -- when another history was noticed; null: the books serve
    known_us          bigint,  -- of the newest thing that they knew then
    told_us           bigint  -- when they were reconciled with what was told
) WITH (fillfactor = 50);
INSERT INTO book_history DEFAULT VALUES;

-- How far what was told is read back, by tenant: of the restore that was noticed at `noticed_us`.
CREATE TABLE readings (
    tenant_id    smallint PRIMARY KEY,
    noticed_us   bigint NOT NULL,
    after_dialog uuid NOT NULL,
    done_us      bigint
);

CREATE TABLE told_versions (
    payment_id uuid NOT NULL,
    version    int NOT NULL,
    is_self    boolean NOT NULL,
    subject_id uuid NOT NULL,
    tenant_id  smallint NOT NULL,
    n          bigint NOT NULL,
    state      smallint,  -- what the notice said; null: nothing but id and version, in a sealed dialog
    payer_id   uuid,
    payee_id   uuid,
    currency   text,
    amount     bigint,
    dialog_id  uuid,
    order_id   uuid,
    open       boolean NOT NULL DEFAULT true,  -- the books are not reconciled with it
    PRIMARY KEY (payment_id, version, is_self, subject_id)
);
CREATE INDEX told_versions_open ON told_versions (payment_id) WHERE open;
