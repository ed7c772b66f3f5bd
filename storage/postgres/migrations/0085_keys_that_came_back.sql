-- The keys of a device that its log lists may go with its sign-in, and come back with the next one. Then who seals needs to
-- know, as when the log grows: `log_announcements.again_ms` says so. NULL: they have not; 0: nobody has looked yet; else
-- when somebody looked: what is announced is due where `keys_seq` is of an event before that.
ALTER TABLE log_announcements ADD COLUMN again_ms bigint;
