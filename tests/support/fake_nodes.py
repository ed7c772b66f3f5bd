"""`Nodes` of which the test says what a reading finds; rows are those that the test has written."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from protocol.bodies import Erased, TimelineEventRaw
from storage import nodes
from storage.nodes import Nodes
from storage.rows import ClusterReading, IncarnationRow, WrittenRow
from storage.unavailable import IncarnationEndedError, StorageUnavailableError

US = 1
BODY = msgspec.Raw(msgspec.msgpack.encode(Erased()))


def event(dialog: bytes, seq: int) -> TimelineEventRaw:
    """Event number `seq` of a dialog."""
    return TimelineEventRaw(dialog, seq, dialog, dialog, seq, 0, 0, BODY)


class FakeNodes(Nodes):
    """A journal in memory. `horizon`, `next_xid`, `epoch` and `others` are what the next reading finds."""

    def __init__(self) -> None:
        self.horizon = self.next_xid = 100
        self.open: list[int] = []
        """Transactions that have not ended, beside the one that holds the horizon."""
        self.epoch = 1
        self.others: list[IncarnationRow] = []
        self.ended = False
        self.away = 0
        """So many calls that read rows fail."""
        self.calls: list[tuple[object, ...]] = []
        self.fences = True
        self._written: list[tuple[int, WrittenRow]] = []

    def write(self, incarnation: int, dialog: bytes, seq: int, stamp: int) -> None:
        """Have a row committed."""
        self._written.append((incarnation, WrittenRow(event(dialog, seq), 1, stamp)))

    async def read_cluster(self, *, incarnation: int, since: int, recent_since: int = 0) -> ClusterReading:
        assert incarnation == US
        if self.ended:
            raise IncarnationEndedError
        seen = [each for each in self.others if each.fenced_at is None or each.fenced_at >= since]
        us = IncarnationRow(US, "us", 1, ended=False)
        recent = [each for each in (self.horizon, *self.open) if each >= recent_since]
        recent_horizon = min(recent, default=self.next_xid)
        return ClusterReading(self.horizon, self.next_xid, recent_horizon, self.epoch, (us, *seen))

    async def read_written(
        self, incarnations: Sequence[int], since: int, before: int, *, after: tuple[int, bytes, int]
    ) -> list[WrittenRow]:
        self._answer("written", tuple(incarnations), since, before)
        found = [row for who, row in self._written if who in incarnations and since <= row.stamp < before]
        found.sort(key=_place)
        return [row for row in found if _place(row) > after][: nodes.PAGE_ROWS]

    async def read_rows(self, dialog: bytes, first: int, last: int) -> list[WrittenRow]:
        self._answer("rows", first, last)
        return [row for row in self._timeline(dialog) if first <= row.event.seq <= last][: nodes.PAGE_ROWS]

    async def find_unseen(self, heads: Sequence[tuple[bytes, int]], since: int) -> list[int]:
        self._answer("unseen", len(heads), since)
        return [
            min(
                (row.event.seq for row in self._timeline(dialog) if row.stamp >= since and row.event.seq <= seq),
                default=seq + 1,
            )
            for dialog, seq in heads
        ]

    async def end(self, incarnation: int, *, lease: int | None) -> bool:
        self._answer("end", incarnation, lease)
        return True

    async def fence(self, incarnation: int) -> bool:
        self._answer("fence", incarnation)
        return self.fences

    async def find_large(self, principal: bytes, *, after: bytes) -> list[bytes]:
        self._answer("large", principal, after)
        return []

    async def read_size(self, dialog: bytes) -> tuple[int, int]:
        self._answer("size", dialog)
        return 1, 1

    async def draw_stamp(self) -> int:
        return 1

    def _answer(self, *call: object) -> None:
        self.calls.append(call)
        if self.away:
            self.away -= 1
            raise StorageUnavailableError("away")

    def _timeline(self, dialog: bytes) -> list[WrittenRow]:
        rows = [row for _, row in self._written if row.event.dialog == dialog]
        return sorted(rows, key=lambda row: row.event.seq)


def _place(row: WrittenRow) -> tuple[int, bytes, int]:
    return row.stamp, row.event.dialog, row.event.seq
