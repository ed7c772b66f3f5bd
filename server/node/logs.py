"""Logs: one line per record, as JSON unless a person reads them in a terminal; counted by level.

Invariant: a record carries ids and never content, tokens, codes, keys or phone numbers. What may stand in a record is
decided where it is logged; `tests/server/node/test_logs.py` runs everything and looks for what must not be there.
"""

from __future__ import annotations

from collections import Counter

RECORDS: Counter[str] = Counter({"error": 0, "warning": 0})
"""Records since the start, by level."""
