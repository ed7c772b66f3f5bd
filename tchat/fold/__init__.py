"""Folds events, in any order, into what a person sees."""
