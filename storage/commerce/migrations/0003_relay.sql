-- Announcements: which version of a payment the chat is to be told, and in which places.
--
-- Invariants
--   * A place is a dialog, or the `self` dialog of a person. Numbers `n` count per place; a number is given once, is
--     committed before it is posted, and keeps what it was given to until the chat has answered.
--   * In a place there is one row for each payment. It has the newest version only: an older one that waits is skipped.
--   * In a place nothing is numbered while anything numbered is unanswered; so what follows is posted after it.
--   * Who holds the lease of a place has its present number: a former holder numbers and marks nothing.
--   * What the chat refused in a dialog before it ever took a version of the payment there is never tried again: later
--     versions are not judged as their requester, and would pass.
-- The row of a place is locked before its announcements, several places in the order of their numbers.

ALTER TABLE outbox SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000);

CREATE TABLE places (
    place_no   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  smallint NOT NULL,
    is_self    boolean NOT NULL,
    subject_id uuid NOT NULL,  -- the dialog, or the person whose `self` dialog it is
    sealed     boolean,  -- null: not known yet
    last_n     bigint NOT NULL DEFAULT 0,
    lease      bigint NOT NULL DEFAULT 0,
    due_us     bigint,  -- when to look at it: when its lease ends, or its pause; null: nothing waits
    failures   int NOT NULL DEFAULT 0,  -- in a row
    UNIQUE (tenant_id, subject_id, is_self)
) WITH (fillfactor = 70);
CREATE INDEX places_due ON places (tenant_id, due_us) WHERE due_us IS NOT NULL;

CREATE TABLE announcements (
    place_no   bigint NOT NULL,
    payment_id uuid NOT NULL,
    version    int NOT NULL,  -- the newest
    since_us   bigint NOT NULL,  -- since when something waits
    done       int NOT NULL DEFAULT 0,  -- the newest version that the chat has taken
    admitted   boolean NOT NULL,  -- the chat has taken a version, or need not judge a requester
    n          bigint,
    sent       int,  -- the version that has the number `n`
    expires_us bigint,  -- when it expires, as far as it was the payment's version when it got the number
    refused    text,  -- the code
    PRIMARY KEY (place_no, payment_id)
) WITH (fillfactor = 70);
CREATE INDEX announcements_waiting ON announcements (place_no, since_us) WHERE version > done AND refused IS NULL;
CREATE INDEX announcements_numbered ON announcements (place_no, n) WHERE n IS NOT NULL;
CREATE INDEX announcements_refused ON announcements (refused) WHERE refused IS NOT NULL;

-- The epoch of the chat, by tenant; up to where its beginning has been worked through: null when that is done.
CREATE TABLE chat_epochs (
    tenant_id  smallint PRIMARY KEY,
    epoch      bigint NOT NULL,
    place_no   bigint,
    payment_id uuid
);
