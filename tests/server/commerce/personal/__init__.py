"""Tests of what is personal in commerce."""
