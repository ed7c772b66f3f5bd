-- Calls with a `flush_no` up to `overtaken` write nothing more: their node gave them up, and calls again.

ALTER TABLE incarnations ADD COLUMN overtaken bigint NOT NULL DEFAULT 0;
