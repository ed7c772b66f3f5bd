"""End-to-end encryption of a client: who may read is decided here, never by the server."""
