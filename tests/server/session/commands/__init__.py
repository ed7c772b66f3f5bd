"""Tests of `server/session/commands`."""
