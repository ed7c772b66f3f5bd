"""The contracts of storage, held against every engine."""
