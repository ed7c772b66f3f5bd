"""A device of somebody in a run of sealed conversations: its process comes and goes, its store stays on disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from protocol.bodies import Posted, TimelineEvent
from protocol.commands import History, Numbered
from protocol.limits import HISTORY_EVENTS_MAX
from protocol.replies import HistoryPage
from tchat.actions import ClientError, Notification
from tchat.crypto.errors import Reason
from tchat.crypto.machine import CryptoMachine
from tchat.encryption.contents import content_of
from tchat.encryption.notices import NowReadable, Standing, Unreadable, ViewsDiffer
from tchat.sealed_store import SealedStore
from tchat.shell import Client
from tchat.store_key import FileKey
from tests.adversity.sealed_node import MortalNode
from tests.support.world import Person

ANSWER_S_MAX = 20.0
OF_LOGS = frozenset({Reason.UNKNOWN_DEVICE, Reason.UNKNOWN_MEMBERS})
"""Not keys are missing, but device logs or rosters, which the device asks for."""

T = TypeVar("T")
Where = tuple[bytes, int]
"""An event: its dialog and number."""


@dataclass
class Seen:
    """What a device made of an event with content, when it got it and in the end."""

    first: Reason | None
    last: Reason | None


class ProcessDiedError(Exception):
    """The process has ended; none of its code runs on."""


class MortalStore(SealedStore):
    """A store whose process may die at one of its next commits, before it or after it."""

    def __init__(self, path: Path, key: FileKey, died: Callable[[], None]) -> None:
        self.dies_in: int | None = None
        """Half commits: at an even number it dies before one, at an odd number after it."""
        self._died = died
        super().__init__(path, key)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._come_closer()
        with super()._transaction():
            yield
        self._come_closer()

    def _come_closer(self) -> None:
        if self.dies_in is not None:
            self.dies_in -= 1
            if self.dies_in < 0:
                self._died()
                raise ProcessDiedError


@dataclass
class SealedDevice:
    """`seen` is of all its processes together, `posted` who wrote the messages that it has had."""

    node: MortalNode
    person: Person
    folder: Path
    seen: dict[Where, Seen] = field(default_factory=dict)
    posted: dict[Where, bytes] = field(default_factory=dict)
    disputes: int = 0
    ended: bool = False
    """It was removed from its person's log."""
    client: Client | None = None
    _process: asyncio.Task[None] | None = None
    _store: MortalStore | None = None

    def open_store(self) -> SealedStore:
        """Its store, as a process opens it."""
        return SealedStore(self.folder / "store", FileKey(self.folder / "key"))

    async def start(self) -> Client:
        """Begin a process."""
        await self.stop()
        self.folder.mkdir(exist_ok=True)
        runs: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._process = asyncio.create_task(self._run(runs))
        self.client = await runs
        return self.client

    async def stop(self) -> None:
        """End the process, wherever it is in what it does."""
        process, self.client, self._process, self._store = self._process, None, None, None
        if process is not None:
            process.cancel()
            await asyncio.wait([process])

    def die_soon(self, half_commits: int) -> None:
        """End the process at one of the next commits of its store, before it or after it."""
        if self._store is not None:
            self._store.dies_in = half_commits

    def live_on(self) -> None:
        """Do not end the process after all."""
        if self._store is not None:
            self._store.dies_in = None

    def _die(self) -> None:
        self.client = None
        if self._process is not None:
            self._process.cancel()

    async def _run(self, runs: asyncio.Future[Client]) -> None:
        async def token(_fresh: bool) -> str:
            return self.node.token(self.person)

        store = MortalStore(self.folder / "store", FileKey(self.folder / "key"), self._die)
        self._store = store
        try:
            with contextlib.closing(store):
                async with Client(self.node.url, token, store=store, on_event=self._take) as client:
                    runs.set_result(client)
                    await asyncio.Event().wait()
        except* ProcessDiedError:
            pass

    async def until(self, condition: Callable[[Client], bool], *, more_s: float = 0.0) -> bool:
        """Whether this comes true of a running process, within ANSWER_S_MAX and so many seconds more."""
        client = self.client
        if client is None:
            return False
        return bool(await self._outlive(self._until(client, condition), more_s))

    @staticmethod
    async def _until(client: Client, condition: Callable[[Client], bool]) -> bool:
        await client.wait_until(lambda: condition(client))
        return True

    async def _outlive(self, work: Coroutine[None, None, T], more_s: float = 0.0) -> T | None:
        """What work of the process comes to; None if it fails, lasts too long, or the process ends."""
        task, process = asyncio.ensure_future(work), self._process
        assert process is not None
        await asyncio.wait([task, process], timeout=ANSWER_S_MAX + more_s, return_when=asyncio.FIRST_COMPLETED)
        task.cancel()
        with contextlib.suppress(ClientError, ProcessDiedError, asyncio.CancelledError):
            return await task
        return None

    @property
    def speaks(self) -> bool:
        """Whether its process has heard from the server, and is one of its person's devices."""
        return self.client is not None and self.client.encryption.standing is Standing.LISTED

    async def is_listed(self) -> bool:
        """Whether this device is one of its person's to all others, soon."""
        return await self.until(lambda client: client.encryption.standing is Standing.LISTED)

    async def performs(self, command: Numbered) -> bytes | None:
        """The dialog, once the command is durable; None if it is refused, or waits for too long."""
        if self.client is None:
            return None
        acked = await self._outlive(self.client.perform(command))
        return None if acked is None else acked.dialog

    def has_read(self, events: Collection[Where]) -> bool:
        """Whether all of these were readable here."""
        return all(where in self.seen and self.seen[where].last is None for where in events)

    async def read_again(self, dialog: bytes) -> None:
        """Read what the server shows of a dialog from its beginning, as an app does of one that its person has left."""
        page, seq = HistoryPage(0, dialog, [], more=True), 1
        while page.more and self.client is not None:
            asked = History(0, dialog, seq, limit=HISTORY_EVENTS_MAX, newest_first=False)
            answer = await self._outlive(self.client.request(asked))
            if not isinstance(answer, HistoryPage):
                break
            page = answer
            for event in page.events:
                body = content_of(event)
                if body is not None and body.payload:
                    self._note(event, None)
                seq = event.seq + 1

    def machine(self, store: SealedStore) -> CryptoMachine:
        """What can open messages with the keys in its store, when no process has it."""
        return CryptoMachine(store, self.person.principal, self.person.device, store.generation)

    def _take(self, event: Notification) -> None:
        match event:
            case TimelineEvent():
                self._note(event, None)
            case Unreadable(event=unread, reason=reason):
                self._note(unread, reason)
            case NowReadable(event=read):
                self._note(read, None)
            case ViewsDiffer():
                self.disputes += 1

    def _note(self, event: TimelineEvent, reason: Reason | None) -> None:
        if content_of(event) is not None:
            if isinstance(event.body, Posted):
                self.posted[event.dialog, event.seq] = event.author
            seen = self.seen.setdefault((event.dialog, event.seq), Seen(reason, reason))
            seen.last = None if seen.last is None else reason
