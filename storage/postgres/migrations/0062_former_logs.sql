-- The device logs of the identities that a person had before: what their devices signed then is still checked by clients
-- that read a roster later. Of the newest of them only (`append_device_log`).
CREATE TABLE former_logs (
    principal_id uuid NOT NULL,
    generation   bigint NOT NULL,
    index        int NOT NULL,
    hash         bytea NOT NULL,
    entry        bytea NOT NULL,
    PRIMARY KEY (principal_id, generation, index)
);
