"""Tests of `server/commerce`."""
