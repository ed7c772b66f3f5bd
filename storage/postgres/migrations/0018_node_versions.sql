-- Which version a node runs: `tchat nodes` shows it. Empty of those from before.
ALTER TABLE incarnations ADD COLUMN version text NOT NULL DEFAULT '';
