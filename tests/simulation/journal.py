"""`Journal` on the database in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from storage.rows import (
    ChangeEntry,
    ChangeResult,
    Entry,
    ErasureStep,
    HorizonReading,
    RaisedReceipt,
    ReceiptRow,
    Verdict,
)
from storage.timelines import Journal
from storage.unavailable import IncarnationEndedError, NothingWrittenError, StorageUnavailableError
from tests.simulation.changes import judge_change, may_change, refuse_stranger
from tests.simulation.database import Database, Fate, Transaction, pause_before_commit
from tests.simulation.judging import judge_content, may_know, refuses_for_good
from tests.simulation.tables import HANGS_ON_A_MESSAGE


class MemoryJournal(Journal):
    """The write half."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def flush(self, entries: Sequence[Entry], *, incarnation: int, flush_no: int, wait: bool) -> list[Verdict]:
        database, noted = self._database, set[tuple[bytes, int]]()

        async def work(transaction: Transaction, fate: Fate) -> list[Verdict]:
            self._refuse_overtaken(incarnation, flush_no)
            known = {entry.dialog for entry in entries if may_know(database, entry.dialog, entry.author)}
            locked = {dialog for dialog in sorted(known) if await transaction.lock(dialog, wait=wait)}
            await pause_before_commit(fate)
            verdicts = judge_content(database, entries, locked, transaction)
            noted.update(self._note_refused(entries, verdicts))
            return verdicts

        with self._noting_doubt(entries):
            verdicts = await database.write("flush", incarnation, work)
        database.refused -= noted - database.put_off
        return verdicts

    async def change(self, entry: ChangeEntry, *, incarnation: int, flush_no: int) -> ChangeResult:
        database, noted = self._database, set[tuple[bytes, int]]()

        async def work(transaction: Transaction, fate: Fate) -> ChangeResult:
            self._refuse_overtaken(incarnation, flush_no)
            if may_change(database, entry):
                await transaction.lock(entry.dialog, wait=True)
                await pause_before_commit(fate)
                result = judge_change(database, entry, transaction)
            else:
                result = refuse_stranger(database)
            noted.update(self._note_refused([entry], [result.verdict]))
            return result

        with self._noting_doubt([entry]):
            result = await database.write("change", incarnation, work)
        database.refused -= noted - database.put_off
        return result

    async def overtake(self, flush_no: int, *, incarnation: int) -> None:
        def raise_it() -> None:
            self._database.overtaken[incarnation] = max(flush_no, self._database.overtaken[incarnation])

        await self._database.read("overtake", raise_it)

    async def raise_receipts(
        self, receipts: Sequence[ReceiptRow], *, incarnation: int, epoch: int
    ) -> list[RaisedReceipt]:
        async def work(transaction: Transaction, fate: Fate) -> list[RaisedReceipt]:
            transaction.take_id()
            await pause_before_commit(fate)
            if epoch != self._database.epoch:
                return []
            raised = [self._raise(receipt, transaction.xid) for receipt in receipts]
            return [each for each in raised if each is not None]

        return await self._database.write("receipts", incarnation, work)

    async def erase_due(self, now_ms: int, *, limit: int) -> ErasureStep:
        del now_ms
        return await self._database.read("erase_due", lambda: self._erase(limit))

    async def begin_incarnation(self, node: str) -> int:
        return self._database.begin_incarnation(node)

    async def read_horizon(self, *, incarnation: int) -> HorizonReading:
        return await self._database.read("horizon", lambda: self._horizon(incarnation))

    async def find_oldest_writer(self) -> str:
        return "a transaction in memory"

    def _refuse_overtaken(self, incarnation: int, flush_no: int) -> None:
        if flush_no <= self._database.overtaken[incarnation]:
            raise NothingWrittenError("the call was overtaken")

    def _note_refused(
        self, entries: Sequence[Entry | ChangeEntry], verdicts: Sequence[Verdict]
    ) -> set[tuple[bytes, int]]:
        """Note what is refused for good; return what was not noted before, to be forgotten when the reply arrives."""
        pairs = zip(entries, verdicts, strict=True)
        refused = {(entry.device, entry.n) for entry, verdict in pairs if refuses_for_good(verdict)}
        new = refused - self._database.refused
        self._database.refused |= new
        return new

    @contextmanager
    def _noting_doubt(self, entries: Sequence[Entry | ChangeEntry]) -> Iterator[None]:
        try:
            yield
        except (NothingWrittenError, IncarnationEndedError):
            raise
        except StorageUnavailableError:
            self._database.doubts.update((entry.device, entry.n) for entry in entries)
            raise

    def _raise(self, receipt: ReceiptRow, xid: int) -> RaisedReceipt | None:
        dialog = self._database.dialogs.get(receipt.dialog)
        member = dialog.members.get(receipt.principal) if dialog is not None else None
        if dialog is None or member is None or not member.member:
            return None
        read = max(member.read, min(receipt.read, dialog.seq))
        delivered = max(member.delivered, member.read, min(max(receipt.delivered, receipt.read), dialog.seq))
        if (read, delivered) == (member.read, member.delivered) and not receipt.again:
            return None
        row = dialog.find(read)
        member.read, member.delivered, member.xid = read, delivered, xid
        member.read_messages = row.messages if row is not None else member.read_messages
        shared = dialog.rule.receipts
        if shared:
            dialog.receipts_xid = xid
        numbers = (delivered, read, member.read_messages)
        return RaisedReceipt(receipt.dialog, receipt.principal, *numbers, shared, dialog.member_count)

    def _horizon(self, incarnation: int) -> HorizonReading:
        database = self._database
        database.check_history()
        reading = HorizonReading(database.horizon, database.next_xid)
        database.forget_id(database.take_id(), committed=True)  # the message that puts an id past the horizon on disk
        if database.is_ended(incarnation):
            raise IncarnationEndedError
        return reading

    def _erase(self, limit: int) -> ErasureStep:
        database = self._database
        left = limit
        while database.erasures and left > 0:
            where, target = database.erasures[0]
            hanging = [
                row
                for row in database.dialogs[where].rows[target:]
                if row.target == target and row.tag in HANGS_ON_A_MESSAGE
            ]
            for row in hanging[:left]:
                database.erase(where, row)
            if len(hanging) < left:
                del database.erasures[0]
            left -= min(len(hanging), left) + 1
        return ErasureStep(limit - max(left, 0), left <= 0, 0 if database.erasures else None)
