"""A bot: handlers for what others write, which run whatever crashes, in dialogs that are end-to-end encrypted, too.

    bot = Bot("https://chat.example.org", Path("echo.key"), folder="echo")

    @bot.on_message
    async def echo(message: MessageContext) -> None:
        await message.reply(message.text)

    bot.run()

Invariants:

- An event is noted as handled after its handler has ended. So a handler runs at least once for each event that comes
  after the first start of a state; what it does through its context happens once (`bot_handlers.py`).
- The events of a dialog are handled in order, one after the other. A slow handler holds back its own dialog only.
- A handler that fails is shown in the log and run again, a few times; then its event counts as handled.
- What cannot be opened is handled when its keys have come, if they come in this life of the bot.
- At most `HANDLERS_AT_ONCE_MAX` handlers run, and of each dialog a bounded number of events waits in memory.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias, TypeVar

import anyio
import anyio.abc
import anyio.lowlevel

from protocol.bodies import Body, TimelineEvent
from protocol.commands import History, Numbered, Send
from protocol.events import DialogState
from protocol.ids import to_text
from protocol.replies import HistoryPage
from tchat.actions import (
    ClientError,
    ConnectionState,
    Notification,
    RefusedError,
    StateChanged,
    StoppedError,
    Withheld,
)
from tchat.bot_handlers import Handler, Handlers, MessageHandler, as_payload, named_key
from tchat.bot_inbox import DialogInbox, Unread
from tchat.connections import TokenSource
from tchat.crypto.store_errors import SealedStoreError
from tchat.encryption.notices import (
    ChangeNotBelieved,
    DevicesDoubted,
    IdentityStarted,
    KeysNotTaken,
    NotReadBy,
    NowReadable,
    Standing,
    StandingChanged,
    Unreadable,
    ViewsDiffer,
)
from tchat.key_sign_in import KeySignIn
from tchat.private_file import write_private
from tchat.sealed_store import SealedStore
from tchat.shell import Client
from tchat.store_key import FileKey

HANDLERS_AT_ONCE_MAX = 100
RETRY_AFTER_S = (1.0, 5.0, 30.0)
"""The pauses before a handler that failed is run again."""
STOP_S_MAX = 5.0
"""So long handlers have to end when the bot is stopped; what is cut short then runs again at the next start."""
_PAGE_EVENTS = 100
_READ_AGAIN_AFTER_S = 1.0

_log = logging.getLogger(__name__)
B = TypeVar("B", bound=Body)
Background: TypeAlias = "Callable[[Bot], Awaitable[None]]"


class Bot:
    """One device of a bot. `key` is its API key, a file that has it, or what gives access tokens.

    `folder` has its state: the keys of its device, what it has handled, what it has still to send, and the recovery key
    if it has started the bot's identity. Only its owner may read it, and one process at a time uses it. A bot whose
    folder is an older copy notices that; it begins anew, and handles what comes from then on.
    """

    def __init__(self, server: str, key: str | Path | TokenSource, *, folder: Path | str) -> None:
        self.failures = 0
        """How many times a handler has failed."""
        self._server = server.rstrip("/")
        self._key = key
        self._folder = Path(folder)
        self._handlers = Handlers()
        self._background: list[Background] = []
        self._inboxes: dict[bytes, DialogInbox] = {}
        self._client: Client | None = None
        self._store: SealedStore
        self._workers: anyio.abc.TaskGroup
        self._limiter: anyio.CapacityLimiter
        self._live = anyio.Event()
        self._stop = anyio.Event()
        self._ended_by: StoppedError | None = None

    # what the bot does

    def on_message(self, handler: MessageHandler) -> MessageHandler:
        """Handle the messages of others that are no command of this bot."""
        self._handlers.message = handler
        return handler

    def command(self, name: str) -> Callable[[MessageHandler], MessageHandler]:
        """Handle messages that begin with `/name`; what follows is `message.arguments`."""

        def add(handler: MessageHandler) -> MessageHandler:
            self._handlers.commands[name.removeprefix("/").casefold()] = handler
            return handler

        return add

    def on(self, body: type[B]) -> Callable[[Handler[B]], Handler[B]]:
        """Handle the events of others with this body, such as `MembersAdded`; a message goes to the handlers above."""

        def add(handler: Handler[B]) -> Handler[B]:
            self._handlers.bodies[body] = handler
            return handler

        return add

    def background(self, work: Background) -> Background:
        """Run this from when the bot is first live until it ends; begin it again when it fails."""
        self._background.append(work)
        return work

    @property
    def client(self) -> Client:
        """The client of the bot, while it runs."""
        assert self._client is not None, "the bot does not run"
        return self._client

    async def send(self, dialog: bytes, text: str | bytes, *, key: str) -> int:
        """Send a message that is about no event, once for this `key`, also across crashes; returns its number.

        The newest 10,000 keys are remembered. `RefusedError` if it is refused.
        """
        send = Send(0, dialog, 0, as_payload(text), self.client.make_header(dialog))
        return await self.perform(send, key=key)

    async def perform(self, command: Numbered, *, key: str) -> int:
        """Perform any command once for this `key`, as `send` does."""
        return await self.client.perform_once(named_key(key), command)

    # its life

    def run(self) -> None:
        """Run until SIGINT or SIGTERM, as a program that logs to stderr; exits with 1 when only a person can help."""
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
        _log.setLevel(logging.INFO)
        anyio.run(self._run_until_signal)

    async def _run_until_signal(self) -> None:
        ended_by: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._await_signal)
            try:
                await self.serve()
            except (StoppedError, SealedStoreError) as error:
                ended_by = error
            tasks.cancel_scope.cancel()
        if ended_by is not None:
            _log.error("the bot ends: %s", ended_by)
            raise SystemExit(1)

    async def _await_signal(self) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                self.stop()

    def stop(self) -> None:
        """End the bot: handlers have `STOP_S_MAX` to end."""
        self._stop.set()

    async def wait_live(self) -> None:
        """Return once the bot that `serve` runs has been connected and caught up."""
        while self._client is None:
            await anyio.lowlevel.checkpoint()
        await self._live.wait()

    async def serve(self) -> None:
        """Run until `stop`, or cancelled; raises `StoppedError` when only a person can help."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._store = SealedStore(self._folder / "store", FileKey(self._folder / "store.key"))
        self._inboxes = {dialog: DialogInbox(seq, read_to=seq) for dialog, seq in self._store.handled().items()}
        self._limiter = anyio.CapacityLimiter(HANDLERS_AT_ONCE_MAX)
        try:
            await self._serve()
        finally:
            self._client = None
            self._store.close()
        if self._ended_by is not None:
            raise self._ended_by

    async def _serve(self) -> None:
        token = self._key
        if isinstance(token, str | Path):
            token = KeySignIn(self._server, token, self._folder / "device")
        url = f"{self._server.replace('http', 'ws', 1)}/v1/ws"
        async with (
            Client(url, token, store=self._store, on_event=self._heard) as self._client,
            anyio.create_task_group() as beside,
        ):
            beside.start_soon(self._watch)
            for work in self._background:
                beside.start_soon(self._run_in_background, work)
            async with anyio.create_task_group() as self._workers:
                await self._stop.wait()
                rest_s = STOP_S_MAX if self._ended_by is None else 0.0
                self._workers.cancel_scope.deadline = anyio.current_time() + rest_s
            beside.cancel_scope.cancel()

    async def _watch(self) -> None:
        """End the bot when its client has stopped."""
        try:
            await self.client.wait_until(lambda: False)
        except StoppedError as error:
            self._ended_by = None if self._stop.is_set() else error
            self._stop.set()

    async def _run_in_background(self, work: Background) -> None:
        await self._live.wait()
        while True:
            try:
                await work(self)
            except Exception as error:  # noqa: BLE001 - whatever it is, the bot goes on
                self._failed("work in the background failed, and begins again", None, error)
                await anyio.sleep(RETRY_AFTER_S[1])
            else:
                return

    # what comes

    def _heard(self, event: Notification) -> None:
        match event:
            case DialogState():
                inbox = self._inboxes.setdefault(event.dialog, DialogInbox(0))
                inbox.begins(event.first_seq)
                self._wake(event.dialog, inbox)
            case TimelineEvent():
                inbox = self._inboxes.setdefault(event.dialog, DialogInbox(0, read_to=event.seq - 1))
                inbox.heard(event)
                self._wake(event.dialog, inbox)
            case StateChanged(state=ConnectionState.LIVE):
                self._caught_up()
            case StateChanged(state=ConnectionState.WAITING) if not self._stop.is_set():
                _log.warning("no connection to %s: it is tried again", self._server)
            case NowReadable():
                self._workers.start_soon(self._handle_late, event.event)
            case IdentityStarted():
                write_private(self._folder / "recovery_key", event.recovery_key.encode())
                _log.warning("this device has started the identity of the bot: keep %s/recovery_key", self._folder)
            case StandingChanged(standing=Standing.LISTED):
                _log.info("%s", event.sentence)
            case (
                Unreadable()
                | StandingChanged()
                | KeysNotTaken()
                | ChangeNotBelieved()
                | DevicesDoubted()
                | ViewsDiffer()
                | NotReadBy()
            ):
                _log.warning("%s (%s)", event.sentence, type(event).__name__)
            case Withheld():
                _log.warning("a message is not sent: %s", event.reason)
            case _:
                pass

    def _caught_up(self) -> None:
        """Begin with what was missed; where nothing was handled before, with what comes from now on."""
        if not self._store.handled():
            for dialog, inbox in self._inboxes.items():
                inbox.pass_over(0)
                self._store.mark_handled(dialog, inbox.handled, durable=False)
        _log.info("live, as %s", to_text(self.client.me))
        self._live.set()
        for dialog, inbox in self._inboxes.items():
            self._wake(dialog, inbox)

    def _wake(self, dialog: bytes, inbox: DialogInbox) -> None:
        if self._live.is_set() and not (inbox.working or self._stop.is_set()) and inbox.next() is not None:
            inbox.working = True
            self._workers.start_soon(self._work, dialog, inbox)

    async def _work(self, dialog: bytes, inbox: DialogInbox) -> None:
        async with self._limiter:
            while (due := inbox.next()) is not None and not self._stop.is_set():
                if isinstance(due, Unread):
                    await self._read(dialog, inbox, due)
                else:
                    await self._handle(inbox, due)
            inbox.working = False

    async def _read(self, dialog: bytes, inbox: DialogInbox, unread: Unread) -> None:
        """Handle a page of what came while the bot was away, or too fast."""
        history = History(0, dialog, unread.first, unread.last, _PAGE_EVENTS, newest_first=False)
        try:
            page = await self.client.request(history)
        except RefusedError as error:
            if not error.temporary:
                _log.warning("cannot read what the bot has missed in %s: %s", dialog.hex(), error)
                self._note_handled(dialog, inbox, unread.last, durable=False)
                return
            await anyio.sleep(error.failed.retry_after_s or _READ_AGAIN_AFTER_S)
            return
        except ClientError:
            await anyio.sleep(_READ_AGAIN_AFTER_S)
            return
        assert isinstance(page, HistoryPage)
        for event in page.events:
            await self._handle(inbox, event)
            if self._stop.is_set():
                return
        if not (page.more and page.events):
            self._note_handled(dialog, inbox, unread.last, durable=False)

    async def _handle(self, inbox: DialogInbox, event: TimelineEvent) -> None:
        handler = self._handlers.find(self.client, event)
        if handler is not None:
            await self._run_handler(handler, event)
        self._note_handled(event.dialog, inbox, event.seq, durable=handler is not None)

    async def _handle_late(self, event: TimelineEvent) -> None:
        """Handle an event whose keys have come after it, beside those that follow it."""
        async with self._limiter:
            if (handler := self._handlers.find(self.client, event)) is not None:
                await self._run_handler(handler, event)

    def _note_handled(self, dialog: bytes, inbox: DialogInbox, seq: int, *, durable: bool) -> None:
        inbox.handled = seq
        self._store.mark_handled(dialog, seq, durable=durable)

    async def _run_handler(self, handler: Callable[[], Awaitable[None]], event: TimelineEvent) -> None:
        for pause_s in (*RETRY_AFTER_S, None):
            try:
                await handler()
            except RefusedError as error:
                self._failed("a handler was refused something, and is not run again", event, error)
                return
            except StoppedError:
                await anyio.sleep_forever()  # the bot ends: the handler runs again at its next start
            except Exception as error:  # noqa: BLE001 - as above
                self._failed("a handler failed" if pause_s else "a handler failed, and is not run again", event, error)
                if pause_s is None:
                    return
                await anyio.sleep(pause_s)
            else:
                return

    def _failed(self, what: str, event: TimelineEvent | None, error: Exception) -> None:
        self.failures += 1
        where = "" if event is None else f" (event {event.seq} of {event.dialog.hex()})"
        _log.error("%s%s", what, where, exc_info=error)
