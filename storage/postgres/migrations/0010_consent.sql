-- Consent: who may add a person to dialogs, whom they know, and the invitations that they have not answered.

-- The deployment's settings that functions judge by; every node writes them at its start.
ALTER TABLE deployment
    ADD COLUMN who_may_add smallint NOT NULL DEFAULT 2,
    ADD COLUMN dialogs_per_person_max int NOT NULL DEFAULT 10000;

-- Null: as the deployment says.
ALTER TABLE people ADD COLUMN who_may_add smallint;

-- `principal_id` knows `other_id`: has begun their direct dialog, or written in it.
CREATE TABLE contacts (
    principal_id uuid NOT NULL,
    other_id     uuid NOT NULL,
    PRIMARY KEY (principal_id, other_id)
);
INSERT INTO contacts
SELECT DISTINCT m.principal_id, o.principal_id
FROM heads h
JOIN authors a ON a.dialog_id = h.dialog_id
JOIN devices d ON d.device_id = a.device_id
JOIN members m ON m.dialog_id = h.dialog_id AND m.principal_id = d.principal_id
JOIN members o ON o.dialog_id = h.dialog_id AND o.principal_id <> m.principal_id
WHERE h.type = 2;

-- `seq` is that of the event in the `self` dialog of the person. Declined ones stay, and are not sent again.
CREATE TABLE invitations (
    principal_id uuid NOT NULL,
    dialog_id    uuid NOT NULL,
    invited_by   uuid NOT NULL,
    seq          bigint NOT NULL,
    declined     boolean NOT NULL DEFAULT false,
    PRIMARY KEY (principal_id, dialog_id)
);
