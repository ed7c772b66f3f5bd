"""Tests of the minimal servers and of the bound."""
