"""The server: gateway, sessions, write pipeline, HTTP API, and the node that joins them."""
