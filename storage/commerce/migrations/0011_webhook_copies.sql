-- A webhook that is sent again is kept once, by the keyed digest of its body. What is pending at a gateway is asked for after
-- a while: what is pending already, now.
ALTER TABLE webhook_bodies ADD COLUMN digest bytea;
CREATE UNIQUE INDEX webhook_bodies_once ON webhook_bodies (gateway, digest);
UPDATE intents SET due_us = moved_us WHERE state = 3 AND due_us IS NULL;
