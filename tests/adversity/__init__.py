"""Tests that try to break the promises: real sockets, lost connections, killed servers."""
