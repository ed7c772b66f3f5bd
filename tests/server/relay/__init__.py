"""Tests of the relay: a real ledger, the real HTTP API of the chat, and a network that the test owns."""
