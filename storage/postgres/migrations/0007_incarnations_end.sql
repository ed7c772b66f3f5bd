-- A node's life ends: another node marks it, waits for what it left running (fenced), and only then begins its own.
-- Whoever wrote before this had no such mark: wait for what is under way, then count all of them as ended.
LOCK TABLE heads IN SHARE ROW EXCLUSIVE MODE;
ALTER TABLE incarnations ADD COLUMN ended_at_ms bigint, ADD COLUMN fenced_at_ms bigint;
UPDATE incarnations SET ended_at_ms = started_at_ms, fenced_at_ms = started_at_ms;
CREATE INDEX incarnations_unfenced ON incarnations (incarnation) WHERE fenced_at_ms IS NULL;

-- What positions are authenticated with, and the cluster whose transaction ids the stamps are: its identifier differs
-- after a restore from a dump, its timeline after a promotion. Unknown until a node starts.
ALTER TABLE deployment
    ADD COLUMN position_key      bytea NOT NULL
        DEFAULT uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()),
    ADD COLUMN system_identifier bigint,
    ADD COLUMN timeline_id       bigint;
ALTER TABLE deployment ALTER COLUMN position_key DROP DEFAULT;
