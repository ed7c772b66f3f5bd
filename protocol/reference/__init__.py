"""Generates docs/protocol.md from the types and the catalogues: `python -m protocol.reference`."""
