"""A node of the simulation: the product's `Node` on the journal in memory, without ports.

It begins as `server.node.running_node.opened` has it: it ends the lives before it and waits for what they left running,
or, with a Redis, shares the database with them; then it begins its own, and works. It may be killed at any callback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, cast

from protocol.close_codes import CloseCode
from protocol.commands import Numbered
from server.clock import Clock
from server.config.settings import Config
from server.gateway.connection import Connection
from server.identity.claims import Claims
from server.identity.rates import MemoryRateLimiter
from server.identity.signing_keys import SigningKeys, new_pem
from server.identity.tokens import Tokens
from server.identity.vault import Vault
from server.node.composition import Node
from server.node.key_stores import KeyStores
from server.payments.commerce_tokens import CommerceTokens
from server.payments.paying import Paying
from server.session.session import Session, SessionContext
from server.writing.mover import Mover
from storage.backups import Backups
from storage.device_keys import DeviceKeyStore
from storage.device_messages import DeviceMessageStore, NewMessages
from storage.postgres.incarnations import NodeLock
from storage.postgres.payment_calls import PaymentCalls
from storage.postgres.pool import Pool
from storage.postgres.work_locks import Job, Work, WorkLocks
from storage.reports import Reports
from storage.rows import Verdict, VerdictCode
from storage.sealed_rosters import SealedRosters
from storage.unavailable import IncarnationEndedError, StorageUnavailableError
from tests.simulation.archive import MemoryBacklog, SimulatedArchive
from tests.simulation.database import Database
from tests.simulation.journal import MemoryJournal
from tests.simulation.judging import refuses_for_good
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.network import Link
from tests.simulation.nodes import MemoryNodes
from tests.simulation.reading import MemoryTimelines
from tests.simulation.redis import SimulatedRedis
from tests.support.no_shares import NO_SHARES

_KEYS = SigningKeys.from_pem(new_pem())
_POSITION_KEY = bytes(32)
_TRY_AGAIN_S = 0.2
_LOOK_EVERY_S = 1.0


class _NoMessages:
    """Messages to devices where nobody has keys: there never are any."""

    async def read_new(self, since: int | None) -> NewMessages:
        if since is not None:
            await asyncio.Event().wait()
        return NewMessages(0, [])


_NO_KEYS = KeyStores(
    device_keys=cast("DeviceKeyStore", None),
    shares=NO_SHARES,
    rosters=cast("SealedRosters", None),
    backups=cast("Backups", None),
    device_messages=cast("DeviceMessageStore", _NoMessages()),
    reports=cast("Reports", None),
)
"""Nobody here has keys."""


class SimulatedTokens(Tokens):
    """Tokens that are the names of devices: what a signature proves is tested elsewhere."""

    def __init__(self, clock: Clock, claims: dict[str, Claims]) -> None:
        super().__init__(_KEYS, clock, issuer="", audience="", ttl_s=1)
        self._claims = claims
        self._verified: set[str] = set()

    def find_cached(self, token: str, device: bytes | None = None) -> Claims | None:
        del device
        return self._claims[token] if token in self._verified else None

    async def verify(self, token: str, device: bytes | None = None, address: str = "") -> Claims:
        del device, address
        await asyncio.sleep(0)
        self._verified.add(token)
        return self._claims[token]


class SimulatedIdentity:
    """Tokens and nothing else."""

    def __init__(self, tokens: Tokens, clock: Clock) -> None:
        self.tokens = tokens
        no_calls = PaymentCalls(cast("Pool", None))  # nobody pays here
        self.paying = Paying(
            Config(),
            CommerceTokens(_KEYS, clock),
            Vault([bytes(range(32))]),
            no_calls,
            limiter=MemoryRateLimiter(clock),
            clock=clock,
        )

    async def app(self, _scope: Any, _receive: Any, _send: Any) -> None:
        """There is no HTTP here."""

    async def sign_out(self, _claims: Claims) -> None:
        """Nobody signs out here."""

    async def run(self) -> None:
        """Nothing is done by the clock."""

    def count_webhooks(self) -> dict[str, int]:
        """Nothing is posted here."""
        return {"sent": 0}

    async def post_events(self) -> None:
        """Nothing is posted here."""

    async def purge(self) -> None:
        """Nothing is purged here."""


class SimulatedLock(NodeLock):
    """The right to serve, which a node takes from the nodes before without asking."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._crashes = database.crashes
        self._history = database.history

    @property
    def broken(self) -> bool:
        """Whether the database has crashed since."""
        return self._crashes != self._database.crashes

    async def keep(self, incarnation: int, settled: Callable[[int], None]) -> None:
        """Its connection breaks with every crash; it matters when the database comes back with another history."""
        while True:
            if self._history == self._database.history:  # else it was lost in part while the node started
                await self._database.wait_for_another_history()
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                epoch = await self._database.read("lock", lambda: self._go_on(incarnation))
            except IncarnationEndedError:
                raise
            except StorageUnavailableError:
                continue
            settled(epoch)

    def doubt(self) -> None:
        """It learns of another history by itself."""

    def _go_on(self, incarnation: int) -> int:
        if self._database.is_ended(incarnation):
            raise IncarnationEndedError
        self._history = self._database.history
        return self._database.settle_epoch()


class SimulatedWorkLocks(WorkLocks):
    """Every node erases, at once: it must not matter. There is no other work here."""

    def __init__(self) -> None:
        self.held = frozenset(Work)

    async def run(self, jobs: Mapping[Work, Job]) -> None:
        """Until cancelled."""
        await jobs[Work.ERASER]()


class NotingSession(Session):
    """A session that notes what it refuses for good: the connection may be cut before its client learns of it."""

    def __init__(self, connection: Connection, context: SessionContext, database: Database) -> None:
        super().__init__(connection, context)
        self._database = database

    def answer(self, command: Numbered, dialog: bytes, verdict: Verdict) -> None:
        super().answer(command, dialog, verdict)
        if refuses_for_good(verdict):
            self._database.refused.add((self.device, command.n))
        elif verdict.code is VerdictCode.UNAVAILABLE:
            self._database.put_off.add((self.device, command.n))


class SimulatedNode:
    """One process of the server; `node` is None until it serves."""

    def __init__(
        self,
        name: str,
        loop: VirtualLoop,
        database: Database,
        config: Config,
        claims: dict[str, Claims],
        *,
        redis: SimulatedRedis | None,
        archive: SimulatedArchive | None,
    ) -> None:
        self.process = Process(name)
        self.node: Node | None = None
        self.ended = False
        """Whether it has ended by itself: another one serves, or it began in a history that is lost."""
        self._loop = loop
        self._database = database
        self._config = config
        self._claims = claims
        self._redis = redis
        self._archive = archive
        self._context: SessionContext

    @property
    def serves(self) -> bool:
        """Whether it takes connections."""
        return self.node is not None and self.process.alive

    def kill(self) -> None:
        """End it at once. What it has sent to the database goes on there."""
        self.process.alive = False

    def open_connection(self, link: Link) -> Connection:
        """The server's half of a connection; called in this process."""
        if self.node is None:
            link.abort()
        connection = Connection(
            link,
            self._config.gateway,
            self._loop,
            address=self.process.name,
            subprotocol="tchat.v1.msgpack",
            lost=lambda _connection: None,
        )
        connection.start(self._start_session)
        return connection

    def _start_session(self, connection: Connection) -> Session:
        session = NotingSession(connection, self._context, self._database)
        session.start()
        return session

    def begin(self) -> None:
        """Start now."""
        self._loop.create_task(self.run(), context=self.process.context).add_done_callback(asyncio.Task.result)

    async def run(self) -> None:
        """Start, serve, and end when another node has taken over."""
        journal = MemoryJournal(self._database)
        started = await self._start(journal)
        if started is None:
            self.ended = True
            return
        node, identity = started
        self._context = node.make_session_context(identity)
        self.node = node
        try:
            await node.run(identity)
        except* IncarnationEndedError:
            pass
        self.node, self.ended = None, True
        for session in node.wheel:
            session.close(CloseCode.UNAVAILABLE)

    def _make_mover(self) -> Mover | None:
        if self._archive is None:
            return None
        return Mover(MemoryBacklog(self._database, self.process), self._archive, self._database.clock)

    async def _start(self, journal: MemoryJournal) -> tuple[Node, SimulatedIdentity] | None:
        """A node that may serve; None when another one has taken the right meanwhile."""
        while True:  # a node that cannot start ends, and is started again
            try:
                lock = SimulatedLock(self._database)
                if self._redis is None:
                    await self._database.fence_all(by=self)
                    if self._database.may_begin is not self:
                        return None
                epoch = self._database.settle_epoch()
                if lock.broken:
                    continue
                incarnation = await journal.begin_incarnation(self.process.name)
                node = Node(
                    self._config,
                    self._database.clock,
                    journal,
                    MemoryTimelines(self._database, page_dialogs=2),
                    lock,
                    stores=_NO_KEYS,
                    work_locks=SimulatedWorkLocks(),
                    incarnation=incarnation,
                    epoch=epoch,
                    position_key=_POSITION_KEY,
                    mover=self._make_mover(),
                    nodes=None if self._redis is None else MemoryNodes(self._database),
                    redis=None if self._redis is None else self._redis.engines_of(self.process),
                )
                await node.take_first_horizon()
            except StorageUnavailableError:
                await asyncio.sleep(_TRY_AGAIN_S)
            else:
                return node, SimulatedIdentity(
                    SimulatedTokens(self._database.clock, self._claims), self._database.clock
                )
