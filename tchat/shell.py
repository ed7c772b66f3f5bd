"""The client with sockets: `ClientCore` on anyio and `websockets`.

    async with Client(url, token_source, store=SqliteOutbox(path)) as client:
        await client.send(dialog, b"hello")
        async for event in client:
            ...

It reconnects, resumes and retries by itself; `async for` ends with a `StoppedError` when only the person can help.
Events wait for a slow iterator in a bounded buffer. When it is full, the socket is not read, not even for acks: so
iterate, or pass `on_event` (called at once, must not block) and never iterate. `view` is what all events add up to.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import anyio
import anyio.abc
import anyio.lowlevel

from protocol.bodies import Header
from protocol.codec import MSGPACK, Codec
from protocol.command_rules import Command
from protocol.commands import History, Numbered, Send
from protocol.kinds import Kind
from protocol.replies import Acked, Failed, Reply
from tchat.actions import (
    Action,
    Answered,
    CloseConnection,
    Connect,
    ConnectionState,
    Emit,
    GivenUpError,
    IdentityKnown,
    Notification,
    Refused,
    RefusedError,
    Renumbered,
    RequestLostError,
    Reset,
    SendBytes,
    Sent,
    Stop,
    StoppedError,
)
from tchat.connections import ConnectionOwner, Connections, TokenSource
from tchat.core import ClientCore, CoreStatistics
from tchat.encryption.contents import blanked
from tchat.encryption.encrypting import Encryption, KeyStore
from tchat.encryption.end_to_end import EndToEnd
from tchat.encryption.notices import NowReadable, Unreadable
from tchat.fold.view import View
from tchat.payment_actions import PaymentActions
from tchat.store import MemoryOutbox, OutboxStore

EVENTS_BUFFERED_MAX = 1000
OUTGOING_MAX = 1000
"""With more unwritten messages than this, typing is not reported."""


@dataclass(frozen=True, slots=True)
class ClientStatistics:
    """The state of the client and its counters."""

    state: ConnectionState
    core: CoreStatistics
    buffered_events: int
    outgoing: int


class _Outcome:
    """The result or error that a caller waits for."""

    def __init__(self) -> None:
        self._happened = anyio.Event()
        self._value: object = None

    def set(self, value: object) -> None:
        self._value = value
        self._happened.set()

    async def wait(self) -> object:
        await self._happened.wait()
        if isinstance(self._value, Exception):
            raise self._value
        return self._value


class Client(PaymentActions):
    """One device, connected whenever the network allows it."""

    def __init__(
        self,
        url: str,
        token_source: TokenSource,
        *,
        store: OutboxStore | None = None,
        encryption: EndToEnd | None = None,
        codec: Codec = MSGPACK,
        on_event: Callable[[Notification], None] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.view = View()
        self._store = store or MemoryOutbox()
        self._own_encryption: Encryption | None = None
        if encryption is None and isinstance(self._store, KeyStore):
            encryption = self._own_encryption = Encryption(self._store)
            encryption.wake = self.seal_again
        self._on_event = on_event
        self._core = ClientCore(self._store, codec, rng or random.Random(), encryption)  # noqa: S311 - jitter
        self._connections = Connections(
            url,
            token_source,
            codec,
            self._core,
            ConnectionOwner(self._perform, self._together, self._stop, self._is_full, self._wait_for_room),
        )
        self._tasks: anyio.abc.TaskGroup | None = None
        self._to_do: deque[Action] = deque()
        self._performing = False
        self._events: deque[Notification] = deque()
        self._stopped: StoppedError | None = None
        self._closed = False
        self._sends: dict[int, _Outcome] = {}
        self._requests: dict[int, _Outcome] = {}
        self._arrived = anyio.Event()
        self._room = anyio.Event()
        self._changed = anyio.Event()

    async def __aenter__(self) -> Self:
        """Start connecting in the background."""
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._core.start()
        self._perform()
        self._tasks.start_soon(self._connections.run)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        """Disconnect; commands that are not acked stay in the store."""
        assert self._tasks is not None
        self._end()  # not `aclose`: in a scope that was cancelled it would not get further
        if error is not None and not isinstance(error, anyio.get_cancelled_exc_class()):
            kind = error = trace = None  # raise the error of the body itself, not a group
        return await self._tasks.__aexit__(kind, error, trace)

    async def aclose(self) -> None:
        """Disconnect and end the iteration; waiting calls raise."""
        self._end()
        await anyio.lowlevel.checkpoint()

    def _end(self) -> None:
        self._closed = True
        self._connections.end()
        self._give_up(StoppedError("the client was closed"))

    # calls of the app

    @property
    def state(self) -> ConnectionState:
        """The state of the connection."""
        return self._core.state

    @property
    def me(self) -> bytes:
        """The client's own principal; NIL until the first sign-in."""
        return self.view.me

    @property
    def device(self) -> bytes:
        """The client's own device; NIL until the first sign-in."""
        return self.view.device

    @property
    def encryption(self) -> Encryption:
        """What this device does in sealed dialogs, and what its person decides there; only with a store for keys."""
        assert self._own_encryption is not None, "the store keeps no keys"
        return self._own_encryption

    def submit(self, command: Numbered) -> int:
        """Send a numbered command exactly once, now or when there is a connection; returns its number.

        A `Sent` or `Refused` notification with that number follows (after `Renumbered`, with the new one).
        `OutboxFullError` if too many wait.
        """
        self._still_running()
        n = self._core.submit(command, time.monotonic())
        self._perform()
        return n

    async def perform(self, command: Numbered) -> Acked:
        """Submit a command and wait until it is durable; `RefusedError` if it is refused for good.

        Cancelling the wait does not withdraw the command.
        """
        self._still_running()
        return await self._wait_sent(self._core.submit(command, time.monotonic()))

    async def perform_once(self, key: bytes, command: Numbered) -> int:
        """Perform the command of a key, once, also across crashes; returns the number of its event.

        If the key has a command already, that one counts, and this one is not made. Errors as in `perform`; a key whose
        command was refused has none.
        """
        self._still_running()
        if (made := self._store.find_made(key)) is not None and made.seq:
            return made.seq
        return (await self._wait_sent(self._core.submit(command, time.monotonic(), key))).seq

    async def _wait_sent(self, n: int) -> Acked:
        outcome = self._sends[n] = _Outcome()
        self._perform()
        try:
            acked = await outcome.wait()
        except anyio.get_cancelled_exc_class():
            self._sends = {n: other for n, other in self._sends.items() if other is not outcome}
            raise
        assert isinstance(acked, Acked)
        return acked

    async def send(
        self, dialog: bytes, payload: bytes, *, header: Header | None = None, kind: Kind = Kind.MESSAGE
    ) -> Acked:
        """Post an envelope and wait until it is durable; errors as in `perform`."""
        return await self.perform(Send(0, dialog, 0, payload, header or self.make_header(dialog), kind))

    def give_up(self, n: int) -> bool:
        """Do not send a numbered command again; who waits for it gets `GivenUpError`.

        False, and nothing changes, if it is sealed, under way or answered. After `unavailable` its fate may be unknown:
        then it may still come as an event.
        """
        if not self._core.give_up(n):
            return False
        if (outcome := self._sends.pop(n, None)) is not None:
            outcome.set(GivenUpError("the app gave the command up"))
        return True

    def seal_again(self) -> None:
        """Try again what is `Withheld`, after the person has done what it waits for."""
        self._core.seal_again(time.monotonic())
        self._perform()

    def make_header(self, dialog: bytes, reply_to: int | None = None) -> Header:
        """A header with the newest known `keys_seq` of a dialog."""
        known = self.view.dialogs.get(dialog)
        return Header(reply_to=reply_to, keys_seq=known.keys_seq if known else 0)

    async def request(self, command: Command) -> Reply:
        """Send a command without a number (`history`, `roster`, ...) and wait for its reply; `view` takes pages over.

        Errors: `RefusedError`, `RequestLostError`, `TooManyRequestsError`, `StoppedError`.
        """
        self._still_running()
        outcome = _Outcome()
        handle = self._core.request(command, time.monotonic())
        self._requests[handle] = outcome
        self._perform()
        try:
            reply = await outcome.wait()
        finally:
            self._requests.pop(handle, None)
        assert isinstance(reply, Reply)
        return reply

    def take_number(self) -> int:
        """A number of this device that nothing else has, for a payment that must not be made twice; durable."""
        return self._store.take_n()

    def _sign(self, text: bytes) -> bytes | None:
        return None if self._own_encryption is None else self._own_encryption.sign(text)

    async def report(self, dialog: bytes, seq: int, content: bytes, reason: str = "") -> None:
        """Report a sealed message, edit or reaction to the moderators: `content` is the payload that it had here.

        It may have been erased meanwhile. `LookupError` if this device has not opened it; other errors as in `request`.
        """
        try:
            command = self.encryption.report_of(dialog, seq, content, reason)
        except LookupError:  # it was opened long ago: again, while it is there
            await self.request(History(0, dialog, seq, seq))
            command = self.encryption.report_of(dialog, seq, content, reason)
        await self.request(command)

    def send_receipt(self, dialog: bytes, *, delivered: int = 0, read: int = 0) -> None:
        """Report how far the person has received and read, now or when there is a connection."""
        if (known := self.view.dialogs.get(dialog)) is not None:
            known.raise_own_receipt(delivered, read)
        self._core.send_receipt(dialog, delivered, read, time.monotonic())
        self._perform()

    def send_typing(self, dialog: bytes, *, active: bool = True) -> None:
        """Report that the person is writing, if there is a connection."""
        if self._connections.outgoing < OUTGOING_MAX:
            self._core.send_typing(dialog, active, time.monotonic())
            self._perform()

    def pending(self) -> list[Numbered]:
        """Numbered commands that await a final answer, in order."""
        return self._core.pending()

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition on `view`, `state` and the like holds; `StoppedError` if the client stops before."""
        while not condition():
            self._still_running()
            await self._changed.wait()

    def statistics(self) -> ClientStatistics:
        """The state of the client and its counters."""
        return ClientStatistics(
            self._core.state, self._core.statistics(), len(self._events), self._connections.outgoing
        )

    def __aiter__(self) -> Self:
        """Iterate over all events."""
        return self

    async def __anext__(self) -> Notification:
        """The next event."""
        while not self._events:
            if self._closed:
                raise StopAsyncIteration
            if self._stopped is not None:
                raise self._stopped
            self._arrived = anyio.Event()
            await self._arrived.wait()
        event = self._events.popleft()
        if len(self._events) < EVENTS_BUFFERED_MAX // 2:
            self._room.set()
        return event

    def _is_full(self) -> bool:
        return len(self._events) >= EVENTS_BUFFERED_MAX

    async def _wait_for_room(self) -> None:
        self._room = anyio.Event()
        await self._room.wait()

    # actions of the core

    def _perform(self) -> None:
        """Carry out the actions of the core, in order, without waiting.

        An `on_event` callback may call the client: the resulting actions follow those already in the queue.
        """
        self._to_do.extend(self._core.take())
        if self._performing:
            return
        self._performing = True
        try:
            while self._to_do:
                self._carry_out(self._to_do.popleft())
                self._to_do.extend(self._core.take())
        finally:
            self._performing = False
        self._connections.keep_deadline()

    @contextlib.contextmanager
    def _together(self) -> Iterator[None]:
        """What is written inside is one commit; what follows of it happens after that, in the next `_perform`."""
        self._performing = True
        try:
            with self._store.together():
                yield
        finally:
            self._performing = False

    def _carry_out(self, action: Action) -> None:
        match action:
            case SendBytes(data=data):
                self._connections.write(data)
            case Connect():
                self._connections.plan(action)
            case CloseConnection():
                self._connections.close(action)
            case Stop(error=error):
                self._stop(error)
            case Emit(event=event):
                self._deliver(event)

    def _deliver(self, event: Notification) -> None:
        self._settle(event)
        if not isinstance(event, Answered):
            fold_into(self.view, event)
            if self._on_event is not None:
                self._on_event(event)
            else:
                self._events.append(event)
                self._arrived.set()
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    def _settle(self, event: Notification) -> None:
        """Wake the caller that waits for this."""
        match event:
            case Sent(n=n, acked=acked) if n in self._sends:
                self._sends.pop(n).set(acked)
            case Refused(n=n, failed=failed) if n in self._sends:
                self._sends.pop(n).set(RefusedError(failed))
            case Renumbered(old=old, n=n) if old in self._sends:
                self._sends[n] = self._sends.pop(old)
            case Answered(request=handle, reply=reply):
                self.view.apply(reply)
                if (outcome := self._requests.pop(handle, None)) is not None:
                    lost = RequestLostError("the connection was lost before the answer")
                    outcome.set(RefusedError(reply) if isinstance(reply, Failed) else reply or lost)
            case _:
                pass

    def _stop(self, error: StoppedError) -> None:
        self._stopped = error
        self._connections.close(CloseConnection(1000, ""))
        self._give_up(error)

    def _give_up(self, error: StoppedError) -> None:
        for outcome in (*self._sends.values(), *self._requests.values()):
            outcome.set(error)
        self._sends.clear()
        self._requests.clear()
        self._arrived.set()
        self._changed.set()

    def _still_running(self) -> None:
        if self._stopped is not None:
            raise self._stopped
        if self._closed:
            raise StoppedError("the client was closed")


def fold_into(view: View, event: Notification) -> None:
    """What an event changes of what a person sees."""
    match event:
        case Reset():
            view.clear()
        case IdentityKnown(principal=principal, device=device):
            view.me, view.device = principal, device
        case Unreadable(event=sealed, reason=reason):
            view.apply(blanked(sealed))
            view.mark_unreadable(sealed, reason)
        case NowReadable(event=opened):
            view.apply(opened)
        case _:
            view.apply(event)
