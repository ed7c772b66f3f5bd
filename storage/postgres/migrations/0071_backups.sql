-- What people keep here, sealed under a recovery key that the server does not have.
--
-- Invariants
--   * `version` of a row only grows.
--   * `backup_counts.held` is the number of rows of a person; who changes it holds its row.
CREATE TABLE backups (
    principal_id uuid NOT NULL,
    generation   bigint NOT NULL,
    key          bytea NOT NULL,
    version      bigint NOT NULL,
    at_ms        bigint NOT NULL,
    value        bytea NOT NULL,
    PRIMARY KEY (principal_id, generation, key)
);

CREATE TABLE backup_counts (
    principal_id uuid PRIMARY KEY,
    held         bigint NOT NULL DEFAULT 0
);
