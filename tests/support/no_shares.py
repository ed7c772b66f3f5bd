"""The store of shares of a test in which nobody seals anything: it has nothing for any device."""

from __future__ import annotations

from typing import cast

from storage.shares import Shares, SliceRow


class _Nothing:
    async def read(self, _device: bytes, *, after: int, limit: int) -> list[SliceRow]:  # noqa: ARG002 - there is none
        return []

    async def read_newest(self, _device: bytes, _dialog: bytes, *, limit: int) -> list[SliceRow]:  # noqa: ARG002
        return []


NO_SHARES = cast("Shares", _Nothing())
