"""A PostgreSQL of the size of a few dicts: transactions, their ids, the locks of heads, the horizon, incarnations.

What it has in common with the real one, because the product depends on it:

* A transaction gets its id when it first locks a head, and may commit much later, in any order. The horizon is the
  lowest id that is still running; a crash gives ids out again that only unfinished transactions had.
* All that a transaction does becomes visible at once, at its commit; its locks are held until then. A statement goes on
  when the node that sent it is dead, or no longer waits.
* What writes holds its incarnation. An incarnation is ended first; it is fenced when nothing holds it any more.

A read sees what is committed at one moment. Rows are judged at the commit, under the locks: nothing else that they
depend on can have changed since the locks were taken.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from server.clock import Clock
from storage.rows import PrincipalType
from storage.unavailable import IncarnationEndedError, LockTimeoutError, OtherHistoryError, StorageUnavailableError
from tests.simulation.loop import Process
from tests.simulation.tables import Dialog, Row

_T = TypeVar("_T")

_LOCK_TIMEOUT_S = 2.0
_STATEMENT_TIMEOUT_S = 10.0
_FIRST_XID = 100


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to one call: pauses before it arrives, before its commit, and before its reply; or an error.

    With an error a write is done and its reply lost; with `lost_request` it never arrives. A read just fails.
    """

    arrive_s: float = 0.0
    commit_s: float = 0.0
    reply_s: float = 0.0
    error: Exception | None = None
    lost_request: bool = False


_SMOOTH = Fate()


@dataclass(frozen=True, slots=True)
class Backup:
    """All that was committed at some moment."""

    dialogs: dict[bytes, Dialog]
    erasures: list[tuple[bytes, int]]
    moved: int
    archive_erasures: set[tuple[bytes, int]]
    committed_xid: int
    incarnations: int
    ended: set[int]
    fenced_at: dict[int, int]


class Conditions:
    """How calls fare; here all of them well, and at once."""

    def fate_of(self, call: str) -> Fate:
        """The fate of the next call of this name."""
        del call
        return _SMOOTH


class Transaction:
    """A write that runs. Without an id until it needs one."""

    def __init__(self, database: Database, incarnation: int) -> None:
        self.xid = 0
        self._database = database
        self._crashes = database.crashes
        self.incarnation = incarnation
        self._locked: list[bytes] = []

    async def lock(self, dialog: bytes, *, wait: bool) -> bool:
        """Lock the head of a dialog until the end; False if another one has it, and `wait` is not asked for."""
        locks = self._database.locks
        if dialog in locks and not wait:
            return False
        self.take_id()
        if dialog not in locks:
            locks[dialog] = deque()
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            locks[dialog].append(turn)
            try:
                async with asyncio.timeout(_LOCK_TIMEOUT_S):
                    await turn
            except TimeoutError:
                if not turn.done() or turn.cancelled():
                    raise LockTimeoutError("the head is locked") from None
        self._locked.append(dialog)
        return True

    def take_id(self) -> int:
        """Its id from now on."""
        if not self.xid:
            self.xid = self._database.take_id()
        return self.xid

    def end(self, *, committed: bool) -> None:
        """Release what it holds; nothing is left of it if the database has crashed since."""
        if self._crashes != self._database.crashes:
            return
        if self.xid:
            self._database.forget_id(self.xid, committed=committed)
        for dialog in self._locked:
            waiting = self._database.locks[dialog]
            while waiting and waiting[0].done():
                waiting.popleft()
            if waiting:
                waiting.popleft().set_result(None)
            else:
                del self._database.locks[dialog]
        self._database.release(self.incarnation)


class Database:
    """What is committed, and what runs."""

    def __init__(self, clock: Clock, conditions: Conditions) -> None:
        self.clock = clock
        self.conditions = conditions
        self.process = Process("database")
        self.dialogs: dict[bytes, Dialog] = {}
        self.principals: dict[bytes, PrincipalType] = {}
        self.sign_ins: dict[bytes, bytes] = {}
        """By sign-in its principal."""
        self.erasures: list[tuple[bytes, int]] = []
        """Erased messages on which something may hang."""
        self.archiving = False
        """Whether a mover has ever begun."""
        self.mover: Process | None = None
        """Which node moves."""
        self.moved = 0
        self.archive_erasures: set[tuple[bytes, int]] = set()
        self.doubts: Counter[tuple[bytes, int]] = Counter()
        """By device and number how many calls with it had a fate that the caller does not know."""
        self.refused: set[tuple[bytes, int]] = set()
        """Device and number of what a node has refused for good, or the database in a reply that nobody hears."""
        self.put_off: set[tuple[bytes, int]] = set()
        """Those that a node said it cannot store now: if it set them aside, no client hears what becomes of them."""
        self.locks: dict[bytes, deque[asyncio.Future[None]]] = {}
        self.next_xid = _FIRST_XID
        self.down = False
        self.may_begin: object = None
        self.crashes = 0
        self._committed_xid = _FIRST_XID - 1
        self._unfinished: set[int] = set()
        self.names: list[str] = []
        """Of the incarnations, from number 1 on."""
        self.leases: Counter[int] = Counter()
        self.overtaken: Counter[int] = Counter()
        """By incarnation the last call that was given up."""
        self.stamps = itertools.count(1)
        self.fenced_at: dict[int, int] = {}
        self.epoch = 1
        """The deployment's, as it was settled last."""
        self.history = self._settled_history = 0
        """How many have been lost in part; and of which one the epoch has begun."""
        self._restored: list[asyncio.Future[None]] = []
        self._ended: set[int] = set()
        self._lost: set[int] = set()
        """Incarnations that began in a history that is lost."""
        self._held: dict[int, int] = {}
        self._free: list[asyncio.Future[None]] = []
        self._calls: dict[asyncio.Task[None], asyncio.Future[Any]] = {}

    # -- calls

    async def write(self, call: str, incarnation: int, work: Callable[[Transaction, Fate], Awaitable[_T]]) -> _T:
        """Run a transaction; the caller waits for its reply, and it does not depend on the caller."""
        loop = asyncio.get_running_loop()
        fate = self.conditions.fate_of(call)
        if fate.lost_request:
            assert fate.error is not None
            await _pause(fate.arrive_s)
            raise fate.error
        reply: asyncio.Future[_T] = loop.create_future()
        task = loop.create_task(
            self._carry_out(incarnation, work, fate, reply), name=call, context=self.process.context
        )
        self._calls[task] = reply
        task.add_done_callback(lambda done: self._calls.pop(done, None))
        expiry = loop.call_later(_STATEMENT_TIMEOUT_S, _fail, reply, StorageUnavailableError("no answer in time"))
        try:
            return await reply
        finally:
            expiry.cancel()

    async def read(self, call: str, look: Callable[[], _T]) -> _T:
        """What `look` sees at one moment."""
        fate = self.conditions.fate_of(call)
        await _pause(fate.arrive_s)
        if fate.error is not None:
            raise fate.error
        self._check_up()
        seen, history = look(), self.history
        await _pause(fate.reply_s)
        if history != self.history:
            raise StorageUnavailableError("the connection was lost")
        return seen

    async def _carry_out(
        self,
        incarnation: int,
        work: Callable[[Transaction, Fate], Awaitable[_T]],
        fate: Fate,
        reply: asyncio.Future[_T],
    ) -> None:
        try:
            await _pause(fate.arrive_s)
            self._check_up()
            result = await self._transact(incarnation, work, fate)
        except Exception as error:  # noqa: BLE001 - it is the caller's
            _fail(reply, error)
        else:
            await _pause(fate.reply_s)
            if fate.error is not None:
                _fail(reply, fate.error)
            elif not reply.done():
                reply.set_result(result)

    async def _transact(self, incarnation: int, work: Callable[[Transaction, Fate], Awaitable[_T]], fate: Fate) -> _T:
        if incarnation in self._ended:
            raise IncarnationEndedError
        self._held[incarnation] = self._held.get(incarnation, 0) + 1
        transaction = Transaction(self, incarnation)
        committed = False
        try:
            result = await work(transaction, fate)
            committed = True
        finally:
            transaction.end(committed=committed)
        return result

    def _check_up(self) -> None:
        if self.down:
            raise StorageUnavailableError("the database is down")

    async def hold_head(self, dialog: bytes, seconds: float) -> None:
        """Lock a head for so long, as somebody does who is no node; nothing happens if it is locked."""
        stranger = Transaction(self, 0)
        self._held[0] = self._held.get(0, 0) + 1
        try:
            if not self.down and await stranger.lock(dialog, wait=False):
                await _pause(seconds)
        finally:
            stranger.end(committed=False)

    def erase(self, dialog: bytes, row: Row) -> None:
        """Blank a row, and note it for the archive."""
        row.erase()
        if self.archiving:
            self.archive_erasures.add((dialog, row.seq))

    # -- ids of transactions

    def take_id(self) -> int:
        """The id of a transaction that begins to write."""
        xid = self.next_xid
        self.next_xid += 1
        self._unfinished.add(xid)
        return xid

    def forget_id(self, xid: int, *, committed: bool) -> None:
        """A transaction has ended."""
        self._unfinished.discard(xid)
        if committed:
            self._committed_xid = max(xid, self._committed_xid)

    @property
    def horizon(self) -> int:
        """Every transaction with a lower id has ended."""
        return self.horizon_from(0)

    def horizon_from(self, since: int) -> int:
        """The same of those transactions whose id is `since` or higher."""
        return min((xid for xid in self._unfinished if xid >= since), default=self.next_xid)

    def crash(self) -> None:
        """End everything that runs without a trace. Ids that nothing committed after are given out again."""
        self.down = True
        self.crashes += 1
        for task, reply in list(self._calls.items()):
            task.cancel()
            _fail(reply, StorageUnavailableError("the connection was lost"))
        self._calls.clear()
        self._unfinished.clear()
        self.locks.clear()
        self._held.clear()
        self.mover = None
        self._wake_fencers()
        self.next_xid = self._committed_xid + 1

    # -- histories

    def back_up(self) -> Backup:
        """What a standby has, or a dump."""
        rows = copy.deepcopy((self.dialogs, self.erasures, self.archive_erasures, self._ended, self.fenced_at))
        dialogs, erasures, archive_erasures, ended, fenced_at = rows
        committed = (self._committed_xid, len(self.names))
        return Backup(dialogs, erasures, self.moved, archive_erasures, *committed, ended, fenced_at)

    def restore(self, backup: Backup) -> None:
        """Crash, and go on from there: what was committed since is lost, and ids are given out again."""
        self._committed_xid = backup.committed_xid
        self.crash()
        self.dialogs, self.erasures = backup.dialogs, backup.erasures
        self.moved, self.archive_erasures = backup.moved, backup.archive_erasures
        self._lost.update(range(backup.incarnations + 1, len(self.names) + 1))
        self._ended, self.fenced_at = backup.ended | self._lost, backup.fenced_at
        self.history += 1
        for waiting in self._restored:
            if not waiting.done():
                waiting.set_result(None)
        self._restored.clear()

    async def wait_for_another_history(self) -> None:
        """Return when the next history begins."""
        self._restored.append(asyncio.get_running_loop().create_future())
        await self._restored[-1]

    @property
    def is_history_settled(self) -> bool:
        """Whether the epoch of this history has begun."""
        return self._settled_history == self.history

    def check_history(self) -> None:
        """Raise OtherHistoryError if the epoch of this history has not begun."""
        if not self.is_history_settled:
            raise OtherHistoryError

    def settle_epoch(self) -> int:
        """The epoch; another one if this is another history than the one it was settled for."""
        if self._settled_history != self.history:
            self._settled_history = self.history
            self.epoch += 1
        return self.epoch

    # -- incarnations

    @property
    def incarnations(self) -> list[tuple[int, str]]:
        """Those of this history, with the names of their nodes."""
        return [(number, name) for number, name in enumerate(self.names, 1) if number not in self._lost]

    def begin_incarnation(self, node: str) -> int:
        """A number for this life of a node."""
        self.names.append(node)
        return len(self.names)

    def is_ended(self, incarnation: int) -> bool:
        """Whether it has ended."""
        return incarnation in self._ended

    async def fence_all(self, by: object) -> None:
        """End every incarnation so far, and take the right to begin one; return when nothing of them runs."""
        self.may_begin = by
        self._ended.update(range(1, len(self.names) + 1))
        while any(incarnation in self._ended for incarnation in self._held):
            free: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._free.append(free)
            await free

    def end(self, incarnation: int) -> None:
        """Mark an incarnation as ended."""
        self._ended.add(incarnation)

    def try_fence(self, incarnation: int) -> bool:
        """Note that an ended incarnation writes nothing more; False while something of it runs."""
        if incarnation in self._held:
            return False
        if incarnation not in self.fenced_at:
            self.fenced_at[incarnation] = self.take_id()
            self.forget_id(self.fenced_at[incarnation], committed=True)
        return True

    def release(self, incarnation: int) -> None:
        """A transaction holds its incarnation no longer."""
        self._held[incarnation] -= 1
        if not self._held[incarnation]:
            del self._held[incarnation]
            self._wake_fencers()

    def _wake_fencers(self) -> None:
        for free in self._free:
            if not free.done():
                free.set_result(None)
        self._free.clear()


async def pause_before_commit(fate: Fate) -> None:
    """What a transaction does between its judgment and its commit."""
    await _pause(fate.commit_s)


async def _pause(seconds: float) -> None:
    if seconds > 0:
        await asyncio.sleep(seconds)


def _fail(reply: asyncio.Future[Any], error: Exception) -> None:
    if not reply.done():
        reply.set_exception(error)
        reply.exception()  # whoever waits gets it; if nobody does, it is not forgotten
