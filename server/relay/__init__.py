"""Announces states of payments in timelines: reads the ledger's outbox, posts to the chat's HTTP API."""
