"""Tests of the relay: a real ledger, the real HTTP API of the chat, and the network between them in the test's hands."""
