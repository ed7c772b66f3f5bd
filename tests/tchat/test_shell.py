"""The client over real sockets, against a server on a script: what it survives, and how it ends."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import anyio
import msgspec
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from protocol.bodies import TimelineEvent
from protocol.close_codes import CloseCode
from protocol.codec import CODECS, MSGPACK, Codec
from protocol.commands import AnyCommand, Authenticate, History, Receipt, Roster, Send, SignOut, Sync, Typing
from protocol.events import CaughtUp
from protocol.replies import Acked, Authenticated, Failed, HistoryPage, RosterPage, Synced
from tchat import shell as client_shell
from tchat.actions import (
    ClientFaultError,
    ConnectionState,
    Notification,
    RefusedError,
    RequestLostError,
    Sent,
    SignInRequiredError,
    StoppedError,
    TokenUnavailableError,
)
from tchat.connections import READ_AHEAD_MAX, TokenSource
from tchat.shell import Client
from tchat.store import MemoryOutbox, OutboxStore, SqliteOutbox
from tests.support.scripted import DEVICE, DIALOG, HEARTBEAT_S, IN_FLIGHT_MAX, ME, dialog_state, event_at, posted

pytestmark = pytest.mark.anyio

Kind = TypeVar("Kind")


class Line:
    """The server's end of one connection."""

    def __init__(self, websocket: ServerConnection, codec: Codec) -> None:
        self.websocket = websocket
        self.codec = codec
        self.last_id = 0

    async def hear(self) -> AnyCommand:
        """The next command."""
        command = self.codec.decode_command(await self.websocket.recv(decode=False))
        self.last_id = command.id
        return command

    async def hear_a(self, kind: type[Kind]) -> Kind:
        """The next command of a kind; others are passed over."""
        while not isinstance(command := await self.hear(), kind):
            pass
        return command

    async def say(self, *messages: msgspec.Struct) -> None:
        """Say so."""
        for message in messages:
            await self.websocket.send(self.codec.encode(message), text=self.codec.text)

    async def accept(self) -> Authenticate:
        """Authenticate and sync the client."""
        command = await self.hear_a(Authenticate)
        await self.say(Authenticated(command.id, ME, DEVICE, 0, HEARTBEAT_S, IN_FLIGHT_MAX, 65536))
        sync = await self.hear_a(Sync)
        await self.say(Synced(sync.id, True), dialog_state(), CaughtUp("p"))
        return command

    async def ack(self, seq: int) -> Send:
        """Acknowledge the next send."""
        send = await self.hear_a(Send)
        await self.say(Acked(send.id, send.dialog, send.n, seq, 0, seq))
        return send


Part = Callable[[Line], Awaitable[None]]


@contextlib.asynccontextmanager
async def playing(*parts: Part, codec: Codec = MSGPACK) -> AsyncIterator[str]:
    """A server that plays one part per connection; its URL. A part that ends keeps its connection open."""
    left = list(parts)

    async def play(websocket: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            await left.pop(0)(Line(websocket, codec))
            await websocket.wait_closed()

    subprotocols = [Subprotocol(codec.subprotocol)]
    async with serve(play, "127.0.0.1", 0, subprotocols=subprotocols, close_timeout=0.1) as server:
        (address,) = (socket.getsockname() for socket in server.sockets)
        yield f"ws://127.0.0.1:{address[1]}/v1/ws"


async def token(_fresh: bool) -> str:
    return "token"


class NoDelay(random.Random):
    """Dice that always say: at once."""

    def uniform(self, a: float, b: float) -> float:  # noqa: ARG002 - the signature is random's
        return a


def client(
    url: str, tokens: TokenSource = token, *, store: OutboxStore | None = None, codec: Codec = MSGPACK
) -> Client:
    """A client that only folds."""
    return Client(url, tokens, store=store, codec=codec, on_event=lambda _event: None, rng=NoDelay())


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.subprotocol)
async def test_a_send_returns_when_it_is_acked(codec: Codec) -> None:
    async def part(line: Line) -> None:
        await line.accept()
        assert (await line.ack(7)).payload == b"hello"

    async with playing(part, codec=codec) as url, client(url, codec=codec) as me:
        assert (await me.send(DIALOG, b"hello")).seq == 7
        assert me.me == ME


async def test_a_send_survives_a_cut_and_is_sent_again() -> None:
    async def cut(line: Line) -> None:
        await line.accept()
        await line.hear_a(Send)
        line.websocket.transport.abort()

    async def go_on(line: Line) -> None:
        await line.accept()
        await line.ack(1)

    async with playing(cut, go_on) as url, client(url) as me:
        assert (await me.send(DIALOG, b"hello")).seq == 1
        assert me.statistics().core.connects == 2


async def test_events_arrive_by_iteration_and_fold_into_the_view() -> None:
    async def part(line: Line) -> None:
        await line.accept()
        await line.say(event_at(1), event_at(2))

    async with playing(part) as url, Client(url, token) as me:
        seqs = []
        async for event in me:
            if isinstance(event, TimelineEvent):
                seqs.append(event.seq)
            if len(seqs) == 2:
                break
        assert seqs == [1, 2]
        assert me.view.dialogs[DIALOG].seq == 2


async def test_a_slow_reader_stops_the_socket_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_shell, "EVENTS_BUFFERED_MAX", 10)
    sent = 0

    async def part(line: Line) -> None:
        nonlocal sent
        await line.accept()
        for sent in range(1, 2001):
            await line.say(event_at(sent, posted(bytes(5_000))))

    async with playing(part) as url, Client(url, token) as me:
        await me.wait_until(lambda: me.statistics().buffered_events >= 10)
        for _ in range(1000):
            await anyio.lowlevel.checkpoint()
        assert sent < 2000
        assert me.statistics().buffered_events < 20 + READ_AHEAD_MAX
        seqs = []
        async for event in me:
            if isinstance(event, TimelineEvent):
                seqs.append(event.seq)
                if event.seq == 2000:
                    break
        assert seqs == list(range(1, 2001))


class Committing(MemoryOutbox):
    """A store that shows when a commit is under way."""

    def __init__(self) -> None:
        super().__init__()
        self.commits = 0
        self.is_open = False

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        self.commits, self.is_open = self.commits + 1, True
        yield
        self.is_open = False


async def test_what_has_arrived_is_one_commit_and_nothing_of_it_is_shown_before() -> None:
    async def part(line: Line) -> None:
        await line.accept()
        await line.say(*(event_at(seq) for seq in range(1, 101)))

    store, shown = Committing(), []
    async with playing(part) as url:
        me = Client(url, token, store=store, on_event=lambda event: shown.append((event, store.is_open)))
        async with me:
            await me.wait_until(lambda: DIALOG in me.view.dialogs and me.view.dialogs[DIALOG].seq == 100)
    assert not any(is_open for _, is_open in shown)
    assert 0 < store.commits < 100


async def test_a_definite_refusal_is_raised() -> None:
    async def part(line: Line) -> None:
        await line.accept()
        send = await line.hear_a(Send)
        await line.say(Failed(send.id, "blocked", "no"))

    async with playing(part) as url, client(url) as me:
        with pytest.raises(RefusedError, match="blocked") as raised:
            await me.send(DIALOG, b"hello")
        assert not raised.value.temporary


async def test_pages_are_returned_and_folded() -> None:
    async def part(line: Line) -> None:
        await line.accept()
        history = await line.hear_a(History)
        await line.say(HistoryPage(history.id, DIALOG, [event_at(1)]))
        roster = await line.hear_a(Roster)
        await line.say(RosterPage(roster.id, DIALOG, []))

    async with playing(part) as url, client(url) as me:
        page = await me.request(History(0, DIALOG))
        assert isinstance(page, HistoryPage)
        assert me.view.dialogs[DIALOG].message(1) is not None
        assert isinstance(await me.request(Roster(0, DIALOG)), RosterPage)


async def test_a_refused_request_is_raised_and_a_lost_one_too() -> None:
    async def part(line: Line) -> None:
        await line.accept()
        roster = await line.hear_a(Roster)
        await line.say(Failed(roster.id, "rate_limited", "slow", 1.0))
        await line.hear_a(SignOut)
        line.websocket.transport.abort()

    async def again(line: Line) -> None:
        await line.accept()

    async with playing(part, again) as url, client(url) as me:
        with pytest.raises(RefusedError) as raised:
            await me.request(Roster(0, DIALOG))
        assert raised.value.temporary
        with pytest.raises(RequestLostError):
            await me.request(SignOut(0))


async def test_receipts_and_typing_are_said() -> None:
    async def part(line: Line) -> None:
        await line.accept()
        receipt = await line.hear_a(Receipt)
        assert (receipt.high_water.delivered, receipt.high_water.read) == (5, 3)
        assert (await line.hear_a(Typing)).active
        await line.say(event_at(1))

    async with playing(part) as url, client(url) as me:
        await me.wait_until(lambda: me.state is ConnectionState.LIVE)
        me.send_receipt(DIALOG, delivered=5, read=3)
        me.send_typing(DIALOG)
        await me.wait_until(lambda: me.view.dialogs[DIALOG].seq == 1)
        assert me.view.dialogs[DIALOG].receipts[ME].read == 3


async def test_a_closed_connection_that_says_stop_ends_everything() -> None:
    async def part(line: Line) -> None:
        await line.accept()
        await line.websocket.close(CloseCode.SIGNED_OUT, "")

    async with playing(part) as url, Client(url, token) as me:
        with pytest.raises(SignInRequiredError):
            async for _ in me:
                pass
        with pytest.raises(SignInRequiredError):
            await me.send(DIALOG, b"hello")
        with pytest.raises(SignInRequiredError):
            await me.wait_until(lambda: False)


async def test_a_waiting_send_raises_when_the_client_stops() -> None:
    async def part(line: Line) -> None:
        await line.accept()
        await line.hear_a(Send)
        await line.websocket.close(CloseCode.SIGNED_OUT, "")

    async with playing(part) as url, client(url) as me:
        with pytest.raises(SignInRequiredError):
            await me.send(DIALOG, b"hello")
        assert len(me.pending()) == 1


async def test_a_fresh_token_is_asked_for_after_a_refused_one() -> None:
    asked = []

    async def tokens(fresh: bool) -> str:
        asked.append(fresh)
        return "new" if fresh else "old"

    async def refuse(line: Line) -> None:
        await line.hear_a(Authenticate)
        await line.websocket.close(CloseCode.AUTH_FAILED, "")

    async def take(line: Line) -> None:
        assert (await line.accept()).token == "new"

    async with playing(refuse, take) as url, client(url, tokens) as me:
        await me.wait_until(lambda: me.state is ConnectionState.LIVE)
    assert asked == [False, True]


async def test_a_token_that_cannot_be_had_now_is_asked_for_again() -> None:
    left = 3

    async def tokens(_fresh: bool) -> str:
        nonlocal left
        left -= 1
        if left:
            raise TokenUnavailableError
        return "token"

    async def part(line: Line) -> None:
        await line.accept()

    async with playing(part) as url, client(url, tokens) as me:
        await me.wait_until(lambda: me.state is ConnectionState.LIVE)


async def test_a_token_source_can_end_the_client() -> None:
    async def tokens(_fresh: bool) -> str:
        raise SignInRequiredError("sign in")

    async with client("ws://127.0.0.1:1/", tokens) as me:
        with pytest.raises(SignInRequiredError):
            await me.wait_until(lambda: False)


async def test_a_server_that_is_not_there_is_tried_again() -> None:
    tries = 0
    enough = anyio.Event()

    async def tokens(_fresh: bool) -> str:
        nonlocal tries
        tries += 1
        if tries > 3:
            enough.set()
        return "token"

    async with client("ws://127.0.0.1:1/", tokens) as me:
        await enough.wait()
        assert me.state is ConnectionState.CONNECTING


async def test_a_server_of_another_protocol_is_a_fault() -> None:
    async def part(line: Line) -> None:
        await line.accept()

    async with playing(part, codec=CODECS["tchat.v1.json"]) as url, client(url) as me:
        with pytest.raises(ClientFaultError):
            await me.wait_until(lambda: False)


async def test_what_an_event_makes_the_app_send_leaves_in_order() -> None:
    heard = []

    async def part(line: Line) -> None:
        await line.accept()
        await line.say(event_at(1), event_at(2), event_at(3))
        for _ in range(12):
            heard.append((await line.hear_a(Send)).n)
            await line.say(Acked(line.last_id, DIALOG, heard[-1], 3 + len(heard), 0, 1))

    async with playing(part) as url:

        def answer(event: Notification) -> None:
            if (
                isinstance(event, (TimelineEvent, Sent))
                and len(me.pending()) < 6
                and me.statistics().core.in_flight < 10
            ):
                me.submit(Send(0, DIALOG, 0, b"one"))
                me.submit(Send(0, DIALOG, 0, b"two"))

        async with Client(url, token, on_event=answer, rng=NoDelay()) as me:
            await me.wait_until(lambda: len(heard) >= 12)
    assert heard == sorted(heard)


async def test_a_server_that_stops_reading_is_left() -> None:
    """A socket that takes nothing must not keep the client from going: neither its bytes nor its goodbye."""

    async def deaf(line: Line) -> None:
        command = await line.hear_a(Authenticate)
        await line.say(Authenticated(command.id, ME, DEVICE, 0, 0.2, 64, 65536))
        sync = await line.hear_a(Sync)
        await line.say(Synced(sync.id, True), CaughtUp("p"))
        line.websocket.transport.pause_reading()
        await line.websocket.wait_closed()

    async def again(line: Line) -> None:
        await line.accept()

    async with playing(deaf, again) as url, client(url) as me:
        for _ in range(500):
            me.submit(Send(0, DIALOG, 0, bytes(60_000)))
        await me.wait_until(lambda: me.statistics().core.connects == 2)


async def test_a_closed_client_says_so(tmp_path: Path) -> None:
    async def part(line: Line) -> None:
        await line.accept()

    store = SqliteOutbox(tmp_path / "outbox")
    async with playing(part) as url, client(url, store=store) as me:
        await me.wait_until(lambda: me.state is ConnectionState.LIVE)
        await me.aclose()
        assert [event async for event in me] == []
        with pytest.raises(StoppedError):
            me.submit(Send(0, DIALOG, 0, b"late"))
    store.close()
