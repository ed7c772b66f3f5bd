"""To what is durable: lanes, group commit, horizon, positions."""
