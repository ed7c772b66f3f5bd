"""Tests of the HTTP API, through ASGI, on a real PostgreSQL."""
