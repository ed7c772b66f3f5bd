"""Tests of identity without HTTP."""
