"""A device of the conversation: one client after another on one outbox, each with a witness."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from protocol.codec import Codec
from protocol.commands import Numbered
from tchat.actions import ConnectionState, Refused, Sent
from tchat.shell import Client
from tchat.store import MemoryOutbox, OutboxStore, SqliteOutbox
from tests.adversity.restart_server import SignIn
from tests.adversity.restart_witness import Ledger, Received, Witness, WitnessedCodec
from tests.support.sharing import KeyRing, SharingSealer


class CrashingOutbox(SqliteOutbox):
    """An outbox whose process may die: what it had not written yet is lost."""

    def crash(self) -> None:
        """Leave the file as a killed process would."""
        self._db.close()


class Device:
    """One sign-in and its client of the moment; `client` is None between two lives."""

    def __init__(
        self,
        signed_in: SignIn,
        codec: Codec,
        url: str,
        rng: random.Random,
        *,
        outbox: Path | None,
        on_settled: Callable[[Sent | Refused], None],
    ) -> None:
        self.name = signed_in.name
        self.signed_in = signed_in
        self.ledger = Ledger()
        self.client: Client
        self.keys = KeyRing(signed_in.device)
        self.listed = 0
        """The length of its person's device log that had it first; 0: none has."""
        self.lives = 0
        self.loaded: dict[bytes, object] = {}
        """Which of its history the client at hand has asked for: what was visible then, by dialog."""
        self._codec = codec
        self._url = url
        self._rng = rng
        self._outbox_path = outbox
        self._memory = MemoryOutbox()
        self._on_settled = on_settled
        self._witnesses: list[Witness] = []
        self._end: asyncio.Event
        self._alive = asyncio.Event()
        self._crashing = asyncio.Lock()
        self._life: asyncio.Task[None]

    @property
    def principal(self) -> bytes:
        """Whose device it is."""
        return self.signed_in.principal

    @property
    def witness(self) -> Witness:
        """The witness of the client at hand."""
        return self._witnesses[-1]

    @property
    def can_crash(self) -> bool:
        """Whether its outbox survives its client."""
        return self._outbox_path is not None

    async def start(self) -> None:
        """Begin a life."""
        self._end = asyncio.Event()
        self._life = asyncio.ensure_future(self._live())
        await self._alive.wait()

    async def end(self) -> None:
        """End the client as a crash would: nothing more is written, acks it had are forgotten."""
        self._alive.clear()
        self._end.set()
        await self._life

    async def crash_and_start(self) -> None:
        """One life after another, also if it crashes again meanwhile."""
        async with self._crashing:
            await self.end()
            await self.start()

    async def alive(self) -> Client:
        """The client, once there is one."""
        await self._alive.wait()
        return self.client

    def submit(self, command: Numbered) -> int:
        """Have the client send a command."""
        n = self.client.submit(command)
        self.ledger.asked[n] = command
        return n

    @property
    def between_lives(self) -> bool:
        """Whether there is no client at the moment."""
        return not self._alive.is_set()

    @property
    def live(self) -> bool:
        """Whether it is connected and has caught up with its last sync."""
        return self.client.state is ConnectionState.LIVE

    @property
    def connects(self) -> tuple[int, int]:
        """How often it has connected: changes with every new connection."""
        return self.lives, self.witness.connects

    def take_received(self) -> list[Received]:
        """What all its lives have received since the last call."""
        received = [replace(witness.take_received(), listed=self.listed) for witness in self._witnesses]
        del self._witnesses[:-1]
        return received

    async def _live(self) -> None:
        self.lives += 1
        self.loaded.clear()
        store: OutboxStore = self._memory if self._outbox_path is None else CrashingOutbox(self._outbox_path)
        witness = Witness(self.principal, self.ledger, self._on_settled, self.keys)
        self._witnesses.append(witness)
        self.client = Client(
            self._url,
            self._token,
            store=store,
            encryption=SharingSealer(store, self.keys, self._rng),
            codec=WitnessedCodec(self._codec, witness.heard),
            on_event=witness.noticed,
            rng=self._rng,
        )
        async with self.client:
            self._alive.set()
            await self._end.wait()
        if isinstance(store, CrashingOutbox):
            store.crash()

    async def _token(self, _fresh: bool) -> str:
        return self.signed_in.token
