"""The server: configuration, gateway, sessions, write pipeline, identity and the HTTP API of one node."""
