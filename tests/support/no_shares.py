"""The store of shares of a test in which nobody seals anything: it is never asked."""

from __future__ import annotations

from typing import cast

from storage.shares import Shares

NO_SHARES = cast("Shares", None)
