"""`make bench`: the targets of performance, each measured on this machine, several times, against its baselines."""
