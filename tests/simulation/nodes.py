"""`Nodes` on the database in memory."""

from __future__ import annotations

from collections.abc import Sequence

from storage.nodes import LARGE_ABOVE, PAGE_ROWS, Nodes
from storage.rows import ClusterReading, IncarnationRow, WrittenRow
from storage.unavailable import IncarnationEndedError
from tests.simulation.database import Database
from tests.simulation.tables import Dialog, Row


class MemoryNodes(Nodes):
    """The nodes that share the database in memory."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read_cluster(self, *, incarnation: int, since: int, recent_since: int = 0) -> ClusterReading:
        return await self._database.read("horizon", lambda: self._cluster(incarnation, since, recent_since))

    async def read_written(
        self, incarnations: Sequence[int], since: int, before: int, *, after: tuple[int, bytes, int]
    ) -> list[WrittenRow]:
        def look() -> list[WrittenRow]:
            found = [
                (row.xid, dialog.dialog, row.seq)
                for dialog in self._database.dialogs.values()
                for row in dialog.rows
                if row.incarnation in incarnations and since <= row.xid < before
            ]
            chosen = sorted(place for place in found if place > after)[:PAGE_ROWS]
            dialogs = self._database.dialogs
            return [_written(dialogs[dialog], dialogs[dialog].rows[seq - 1]) for _, dialog, seq in chosen]

        return await self._database.read("written", look)

    async def read_rows(self, dialog: bytes, first: int, last: int) -> list[WrittenRow]:
        def look() -> list[WrittenRow]:
            found = self._database.dialogs.get(dialog)
            rows = found.rows[max(0, first - 1) : last] if found is not None else []
            return [_written(found, row) for row in rows[:PAGE_ROWS] if found is not None]

        return await self._database.read("rows", look)

    async def find_unseen(self, heads: Sequence[tuple[bytes, int]], since: int) -> list[int]:
        def look() -> list[int]:
            dialogs = self._database.dialogs
            return [min(dialogs[dialog].first_unseen(since), seq + 1) for dialog, seq in heads]

        return await self._database.read("unseen", look)

    async def end(self, incarnation: int, *, lease: int | None) -> bool:
        def mark() -> bool:
            if lease is None or self._database.leases[incarnation] == lease:
                self._database.end(incarnation)
            return self._database.is_ended(incarnation)

        return await self._database.read("end", mark)

    async def fence(self, incarnation: int) -> bool:
        return await self._database.read("fence", lambda: self._database.try_fence(incarnation))

    async def find_large(self, principal: bytes, *, after: bytes) -> list[bytes]:
        def look() -> list[bytes]:
            found = [
                dialog.dialog
                for dialog in self._database.dialogs.values()
                if dialog.dialog > after and dialog.member_count > LARGE_ABOVE and dialog.role_of(principal) is not None
            ]
            return sorted(found)[:PAGE_ROWS]

        return await self._database.read("large", look)

    async def read_size(self, dialog: bytes) -> tuple[int, int]:
        def look() -> tuple[int, int]:
            found = self._database.dialogs.get(dialog)
            return (found.roster_seq, found.member_count) if found is not None else (0, 0)

        return await self._database.read("size", look)

    async def draw_stamp(self) -> int:
        return await self._database.read("stamp", lambda: next(self._database.stamps))

    def _cluster(self, incarnation: int, since: int, recent_since: int) -> ClusterReading:
        database = self._database
        database.check_history()
        horizon, next_xid = database.horizon, database.next_xid
        recent_horizon = database.horizon_from(recent_since)
        found = tuple(
            IncarnationRow(
                number, name, database.leases[number], database.is_ended(number), database.fenced_at.get(number)
            )
            for number, name in database.incarnations
            if database.fenced_at.get(number, since) >= since
        )
        database.leases[incarnation] += 1
        database.forget_id(database.take_id(), committed=True)
        if database.is_ended(incarnation):
            raise IncarnationEndedError
        return ClusterReading(horizon, next_xid, recent_horizon, database.epoch, found)


def _written(dialog: Dialog, row: Row) -> WrittenRow:
    return WrittenRow(dialog.shown(row), dialog.roster_seq, row.xid)
