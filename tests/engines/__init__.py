"""Real servers for tests and for development: each a process of ours on a free port of this machine."""
