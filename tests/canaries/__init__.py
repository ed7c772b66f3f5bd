"""Canaries: one-line breakages of the product, each of which a named test must catch (`python -m tests.canaries`)."""
