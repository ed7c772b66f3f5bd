"""A node in this process on a real database and real sockets, with tokens for any person of a test."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from protocol.codec import MSGPACK, Codec, ServerMessage
from protocol.command_rules import EVERY_COMMAND, Command
from protocol.commands import Authenticate, Sync
from protocol.events import CaughtUp
from protocol.replies import Failed, Reply
from server.clock import Clock, SystemClock
from server.config.settings import Config, ServerSettings
from server.delivery.registry import Registry
from server.identity.claims import Claims
from server.identity.rates import MemoryRateLimiter
from server.identity.signing_keys import SigningKeys, new_pem
from server.identity.tokens import Tokens
from server.identity.vault import Vault
from server.node.composition import Node
from server.node.running_node import opened
from server.payments.commerce_tokens import CommerceTokens
from server.payments.paying import Paying
from server.session.session import Session
from storage.archive import Archive
from storage.postgres.payment_calls import PaymentCalls
from storage.postgres.pool import Pool
from storage.rates import RateLimiter
from tests.support.world import Person, World

KEYS = SigningKeys.from_pem(new_pem())


class TestIdentity:
    """Tokens and nothing else: the HTTP API has tests of its own."""

    __test__ = False

    def __init__(
        self,
        pool: Pool,
        clock: Clock,
        registry: Registry,
        config: Config | None = None,
        limiter: RateLimiter | None = None,
    ) -> None:
        limiter = limiter or MemoryRateLimiter(clock)
        self.paying = Paying(
            config or Config(),
            CommerceTokens(KEYS, clock),
            Vault([bytes(range(32))]),
            PaymentCalls(pool),
            limiter=limiter,
            clock=clock,
        )
        self.tokens = Tokens(KEYS, clock, issuer="test", audience="test", ttl_s=3600)
        self._pool = pool
        self._registry = registry

    async def app(self, _scope: Any, _receive: Any, send: Any) -> None:
        """Answer every request alike."""
        await send({"type": "http.response.start", "status": 404, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    async def sign_out(self, claims: Claims) -> None:
        """End a sign-in."""
        await self._pool.execute("UPDATE sign_ins SET revoked_at_ms = 1 WHERE sign_in_id = $1", claims.sign_in)

    async def run(self) -> None:
        """Nothing is done by the clock."""

    def count_webhooks(self) -> dict[str, int]:
        """Nothing is posted here."""
        return {"sent": 0}

    async def post_events(self) -> None:
        """Nothing is posted here."""

    async def purge(self) -> None:
        """Nothing is purged here."""


@dataclass
class Running:
    """A running node and the world on its database."""

    node: Node
    world: World
    tokens: Tokens
    work: asyncio.Task[None]
    paying: Paying

    @property
    def url(self) -> str:
        """Where its websocket is."""
        return f"ws://127.0.0.1:{self.node.port}/v1/ws"

    def token(self, person: Person) -> str:
        """An access token."""
        return issue_token(self.tokens, person)

    @contextlib.asynccontextmanager
    async def connected(self, codec: Codec = MSGPACK) -> AsyncIterator[Wire]:
        """A websocket, nothing said yet."""
        async with connected_to(self.node.port, codec) as wire:
            yield wire

    def session_of(self, person: Person) -> Session:
        """The one session of a person, synced or not."""
        (session,) = (each for each in self.node.wheel if each.held_claims and each.principal == person.principal)
        return session

    @contextlib.asynccontextmanager
    async def live(self, person: Person, codec: Codec = MSGPACK, position: str = "") -> AsyncIterator[Wire]:
        """A websocket that has authenticated and synced; what catch-up brought is in `wire.caught_up`."""
        async with live_on(self.node.port, self.token(person), position, codec) as wire:
            yield wire


class Wire:
    """One websocket, message by message.

    It has no opinion on what is right, except that a command is refused only with a code that its rule declares.
    """

    def __init__(self, socket: ClientConnection, codec: Codec) -> None:
        self.socket = socket
        self.codec = codec
        self.caught_up: list[ServerMessage] = []
        self.position = ""
        self._asked: dict[int, type[Command]] = {}

    async def send(self, command: Command | bytes) -> None:
        """Send a command, or bytes that pretend to be one."""
        if isinstance(command, Command) and command.id:
            self._asked[command.id] = type(command)
        data = command if isinstance(command, bytes) else self.codec.encode(command)
        await self.socket.send(data, text=self.codec.text)

    async def receive(self) -> ServerMessage:
        """The next message."""
        data = await self.socket.recv(decode=False)
        message = self.codec.decode_server(data)
        assert message is not None
        if isinstance(message, Reply) and (asked := self._asked.pop(message.id, None)) is not None:
            declared = not isinstance(message, Failed) or message.code in asked.rule.codes | EVERY_COMMAND
            assert declared, f"the rule of {asked.__name__} does not declare {message}"
        return message

    async def ask(self, command: Command) -> Any:
        """Send a command and return its reply; events before it are passed over."""
        await self.send(command)
        return await self.receive_reply(command.id)

    async def receive_reply(self, number: int) -> Any:
        """The reply with this id; what comes before it is passed over."""
        while True:
            message = await self.receive()
            if isinstance(message, Reply) and message.id == number:
                return message

    async def until(self, kind: type[msgspec.Struct]) -> Any:
        """The next message of a kind; others are passed over."""
        while True:
            message = await self.receive()
            if isinstance(message, kind):
                return message

    async def close_code(self) -> int | None:
        """Read until the server closes; the code of its close frame."""
        with contextlib.suppress(ConnectionClosed):
            while True:
                await self.socket.recv(decode=False)
        return self.socket.close_code


def issue_token(tokens: Tokens, person: Person) -> str:
    """An access token of a person's device."""
    return tokens.issue(tenant=1, principal=person.principal, device=person.device, sign_in=person.sign_in)


@contextlib.asynccontextmanager
async def connected_to(port: int, codec: Codec = MSGPACK) -> AsyncIterator[Wire]:
    """A websocket to this machine, nothing said yet."""
    url, spoken = f"ws://127.0.0.1:{port}/v1/ws", Subprotocol(codec.subprotocol)
    async with connect(url, subprotocols=[spoken], compression=None, max_queue=None) as socket:
        yield Wire(socket, codec)


@contextlib.asynccontextmanager
async def live_on(port: int, token: str, position: str = "", codec: Codec = MSGPACK) -> AsyncIterator[Wire]:
    """A websocket that has authenticated and synced; what catch-up brought is in `wire.caught_up`."""
    async with connected_to(port, codec) as wire:
        await wire.send(Authenticate(1, token))
        await wire.receive()
        await wire.send(Sync(2, position))
        while not isinstance(message := await wire.receive(), CaughtUp):
            wire.caught_up.append(message)
        wire.position = message.position
        yield wire


@contextlib.asynccontextmanager
async def running(
    url: str, config: Config | None = None, clock: Clock | None = None, archive: Archive | None = None
) -> AsyncIterator[Running]:
    """A node on the database at `url`."""
    world = await World.open(url)
    config = config or Config()
    on_any_port = msgspec.structs.replace(config.server, port=0, admin_port=0)
    made: list[TestIdentity] = []

    async def make(pool: Pool, clock: Clock, *, sessions: Registry, limiter: RateLimiter, **_: Any) -> TestIdentity:
        made.append(TestIdentity(pool, clock, sessions, config, limiter))
        return made[0]

    try:
        config = msgspec.structs.replace(config, server=on_any_port)
        async with opened(config, url, make, clock or SystemClock(), archive) as (node, work):
            world.incarnation = node.incarnation  # the node has ended the one before
            yield Running(node, world, made[0].tokens, work, made[0].paying)
    finally:
        for each in made:
            await each.paying.aclose()
        await world.close()


def configured(**sections: msgspec.Struct) -> Config:
    """The defaults, but for these sections."""
    quick = ServerSettings(drain_timeout_s=2.0)
    return msgspec.structs.replace(Config(server=quick), **sections)
