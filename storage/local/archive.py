"""`Archive` in memory: what a simulation or a test has instead of a CQL server. Nothing is durable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from protocol.bodies import Erased, tag_of
from protocol.limits import N_MAX
from storage.archive import ABOUT_A_MESSAGE, ARCHIVE_ROWS_MAX, LEAVE_THE_JOURNAL, WRITTEN_MAX, Archive, WrittenPage
from storage.rows import TimelineRow, blank_row
from storage.timelines import PAGE_BYTES_MAX

_ERASED = tag_of(Erased)


class LocalArchive(Archive):
    """Rows by dialog and number, with the keys of those that are erased, written or not."""

    def __init__(self) -> None:
        self._rows: dict[bytes, dict[int, TimelineRow]] = {}
        self._epochs: dict[tuple[bytes, int], int] = {}
        """Of every row, the epoch that it was written in."""
        self._about: dict[bytes, set[tuple[int, int, int]]] = {}
        """By dialog `(target, tag, seq)` of every row about a message, with the tag that it was written with."""
        self._erased: dict[tuple[bytes, int], int] = {}
        """Of every key that was erased, written or not, the last epoch in which it was."""
        self._deleted: dict[bytes, int] = {}
        """Of every dialog that was deleted, the last epoch in which it was."""

    async def write(self, rows: Sequence[TimelineRow], *, epoch: int = 0) -> None:
        for row in rows:
            dialog, seq = row.event.dialog, row.event.seq
            if epoch < self._epochs.get((dialog, seq), 0) or epoch <= self._deleted.get(dialog, -1):
                continue
            self._rows.setdefault(dialog, {})[seq] = row
            self._epochs[dialog, seq] = epoch
            if row.tag == _ERASED:
                await self.erase([(dialog, seq)], epoch=epoch)
            if row.tag in ABOUT_A_MESSAGE and row.target is not None:
                self._about.setdefault(dialog, set()).add((row.target, row.tag, seq))

    async def erase(self, keys: Sequence[tuple[bytes, int]], *, epoch: int = 0) -> None:
        for key in keys:
            self._erased[key] = max(epoch, self._erased.get(key, 0))

    async def delete_dialog(self, dialog: bytes, last: int, *, epoch: int = 0) -> None:
        self._deleted[dialog] = max(epoch, self._deleted.get(dialog, -1))
        rows = self._rows.get(dialog, {})
        for seq in [seq for seq in rows if seq <= last and self._epochs[dialog, seq] <= epoch]:
            del rows[seq], self._epochs[dialog, seq]
        self._about[dialog] = {entry for entry in self._about.get(dialog, ()) if entry[2] in rows}

    async def read_range(
        self, dialog: bytes, first: int, last: int, *, limit: int, newest_first: bool
    ) -> list[TimelineRow]:
        seqs = sorted((seq for seq in self._rows.get(dialog, {}) if first <= seq <= last), reverse=newest_first)
        return self._page(dialog, seqs[:limit])

    async def read_rows(self, dialog: bytes, seqs: Sequence[int]) -> list[TimelineRow]:
        assert len(seqs) <= ARCHIVE_ROWS_MAX
        return self._page(dialog, seqs)

    async def read_tags(self, dialog: bytes, first: int, last: int) -> dict[int, int]:
        assert last - first < ARCHIVE_ROWS_MAX
        rows = self._rows.get(dialog, {})
        return {seq: self._read(dialog, seq).tag for seq in sorted(rows) if first <= seq <= last}

    async def read_about(
        self, dialog: bytes, first: int, last: int, *, limit: int, newest_first: bool
    ) -> list[TimelineRow]:
        assert last - first < ARCHIVE_ROWS_MAX
        about = sorted(self._about.get(dialog, ()), reverse=newest_first)
        entries = [entry for entry in about if first <= entry[0] <= last and self._is_about(dialog, *entry)]
        return self._page(dialog, [seq for *_, seq in entries[:limit]])

    async def read_newest_about(
        self, dialog: bytes, target: int, tag: int, *, limit: int, before: int = N_MAX
    ) -> list[TimelineRow]:
        about = sorted(self._about.get(dialog, ()), reverse=True)
        entries = [entry for entry in about if entry[:2] == (target, tag) and entry[2] < before]
        entries = [entry for entry in entries if self._is_about(dialog, *entry)]
        return self._page(dialog, [seq for *_, seq in entries[:limit]])

    async def find_written(self, dialog: bytes, device: bytes, n: int) -> int | None:
        for seq, row in self._rows.get(dialog, {}).items():
            if (row.event.device, row.event.n) == (device, n) and row.tag in LEAVE_THE_JOURNAL:
                return seq
        return None

    async def list_written(
        self, device: bytes, first: int, last: int, *, after: tuple[int, bytes] | None, limit: int
    ) -> WrittenPage:
        assert limit <= WRITTEN_MAX
        found = sorted(
            (row.event.n, dialog, seq)
            for dialog, rows in self._rows.items()
            for seq, row in rows.items()
            if row.event.device == device
            and row.event.n
            and first <= row.event.n <= last
            and row.tag in LEAVE_THE_JOURNAL
            and (after is None or (row.event.n, dialog) > after)
        )[:limit]
        keys = [(dialog, seq) for _, dialog, seq in found if self._read(dialog, seq).tag != _ERASED]
        return WrittenPage(keys, found[-1][:2] if len(found) == limit else None)

    def _is_about(self, dialog: bytes, target: int, tag: int, seq: int) -> bool:
        """Whether the row is still what it was written as: another epoch may have given its number to another."""
        row = self._read(dialog, seq)
        return row.target == target and row.tag in {tag, _ERASED}

    def _page(self, dialog: bytes, seqs: Iterable[int]) -> list[TimelineRow]:
        page: list[TimelineRow] = []
        size = 0
        for seq in seqs:
            if seq in self._rows.get(dialog, {}) and size < PAGE_BYTES_MAX:
                page.append(row := self._read(dialog, seq))
                size += len(row.event.body)
        return page

    def _read(self, dialog: bytes, seq: int) -> TimelineRow:
        row = self._rows[dialog][seq]
        if self._erased.get((dialog, seq), -1) < self._epochs[dialog, seq]:
            return row
        return blank_row(row)
