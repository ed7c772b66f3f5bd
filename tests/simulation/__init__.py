"""The core under many small disasters: virtual time, a journal in memory, and everything decided by one seed."""
