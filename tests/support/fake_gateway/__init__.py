"""A payment gateway with a book of its own, as a process: `python -m tests.support.fake_gateway --help`."""
