-- What has changed in the roster of a sealed dialog since some event is read from both ends of its intervals.
CREATE INDEX roster_intervals_by_start ON roster_intervals (dialog_id, from_seq);
