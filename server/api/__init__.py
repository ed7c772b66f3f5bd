"""The HTTP API at /v1: sign-in, profiles, people, administration, and the events of service accounts."""
