-- Pending payments by the time when they are due; payments that are divided; accounts that many share have all their slots.

DROP INDEX payments_due;
CREATE INDEX payments_pending ON payments (expires_us, payment_id) WHERE state IN (1, 2);  -- requested, held

ALTER TABLE accounts ADD CONSTRAINT fees_have_all_slots CHECK (purpose <> 2 OR slots = 16);

-- Who gets a part of what the payee is paid. `paid` and `returned` are what has moved; the payee may be among them.
ALTER TABLE payments ADD COLUMN shared boolean NOT NULL DEFAULT false;
CREATE TABLE payment_shares (
    payment_id uuid NOT NULL,
    place      smallint NOT NULL,  -- from 1
    account_id uuid NOT NULL,
    slots      smallint NOT NULL,
    weight     int NOT NULL CHECK (weight > 0),
    paid       bigint NOT NULL DEFAULT 0,
    returned   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (payment_id, place),
    CHECK (returned BETWEEN 0 AND paid)
) WITH (fillfactor = 70);
