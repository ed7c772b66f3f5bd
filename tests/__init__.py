"""Tests mirror the packages: tests/<package>/test_<module>.py; each states facts and owns its clock."""
