"""Engines in the memory of one process: for one node, for tests and for the simulation."""
