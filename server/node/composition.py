"""One node, put together: its parts, who is given what, and what runs beside them. `opening.py` opens it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from protocol.close_codes import CloseCode
from protocol.codec import CODECS
from protocol.kinds import DAY_MS
from server.busyness import Busyness
from server.clock import Clock
from server.cluster.hints import Hints
from server.cluster.leases import Leases
from server.cluster.peers import Peers
from server.config.settings import Config, GatewaySettings
from server.delivery.device_messages import DeviceMessageDelivery
from server.delivery.flush_turn import FlushTurn
from server.delivery.presence import Presence
from server.delivery.receipts import Receipts
from server.delivery.registry import Registry
from server.delivery.resequencer import Resequencer
from server.delivery.rooms import Rooms
from server.delivery.routing import Router
from server.delivery.subscriber import Subscriber
from server.gateway.acceptor import Acceptor
from server.gateway.connection import Connection
from server.gateway.connection_counts import ConnectionCounts
from server.identity.rates import MemoryRateLimiter, SharedRateLimiter
from server.node.admin import admin_app
from server.node.connected import Here, find_connected
from server.node.drain import close_at_once, drain
from server.node.identity_port import Identity
from server.node.key_stores import KeyStores
from server.node.metrics import METRICS
from server.node.prometheus import Metrics, Parts
from server.node.redis_start import RedisEngines
from server.node.trouble import find_trouble
from server.session.caps import DailyCaps
from server.session.catch_up import CatchUp
from server.session.commands.changes import Changes
from server.session.commands.content import Content
from server.session.commands.dispatch import find_handlers
from server.session.commands.keys import Keys
from server.session.commands.lifecycle import Lifecycle
from server.session.commands.payment_handlers import PaymentHandlers
from server.session.commands.reads import Reads
from server.session.commands.signals import Signals
from server.session.rates import SessionRates
from server.session.session import Session, SessionContext
from server.session.shared_rates import SharedRates
from server.session.wheel import TimingWheel
from server.writing.author_purge import AuthorPurge
from server.writing.dialog_purge import DialogPurge
from server.writing.durable import DurableEvents
from server.writing.eraser import Eraser
from server.writing.horizon import Horizon
from server.writing.log_announcer import LogAnnouncer
from server.writing.mover import Mover
from server.writing.pipeline import Pipeline
from server.writing.position import Positions
from server.writing.put_back import PutBack
from server.writing.trimmer import Trimmer
from storage.archive import Archive
from storage.nodes import Nodes
from storage.postgres.incarnations import NodeLock
from storage.postgres.work_locks import Job, Work, WorkLocks
from storage.rates import RateLimiter
from storage.timelines import Journal, Timelines
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

_TICK_S = 1.0
_RECEIPTS_INTERVAL_S = 1.0
_HORIZON_INTERVAL_S = 1.0
_CLOSE_TIMEOUT_S = 1.0


class Node:
    """One server process. `opened` gives a running one; `port` is where it listens.

    With `nodes` it shares the database with others: what is delivered goes through a `Resequencer`, and `Peers` reads
    what the others wrote and hands out positions. Without, it serves alone.
    """

    def __init__(
        self,
        config: Config,
        clock: Clock,
        journal: Journal,
        timelines: Timelines,
        lock: NodeLock,
        *,
        stores: KeyStores,
        work_locks: WorkLocks,
        incarnation: int,
        epoch: int,
        position_key: bytes,
        connections: Mapping[str, Callable[[], int]] = MappingProxyType({}),
        archive: Archive | None = None,
        mover: Mover | None = None,
        nodes: Nodes | None = None,
        put_back: PutBack | None = None,
        dialog_purge: DialogPurge | None = None,
        author_purge: AuthorPurge | None = None,
        trimmer: Trimmer | None = None,
        redis: RedisEngines | None = None,
        name: str = "",
        counts: ConnectionCounts | None = None,
    ) -> None:
        self.config = config
        self.name = name
        self.clock = clock
        self.port = self.admin_port = 0
        self.ready = False
        self.incarnation = incarnation
        self._connections, self._counts = connections, counts
        self._late_s = 0.0
        self._works = False
        self._lock, self._work_locks = lock, work_locks
        self.journal = journal
        self.timelines, self._stores, self._archive = timelines, stores, archive
        self.registry = Registry()
        self.device_messages = DeviceMessageDelivery(stores.device_messages, self.registry, self.spawn)
        self.rooms = Rooms(self.timelines, stores.shares, self.registry, self.spawn, rooms_max=config.rooms.rooms_max)
        self.presence = Presence(self.registry, clock)
        self.registry.listener = self.presence.announce
        self.router = Router(self.rooms, self.presence)
        self.resequencer = None if nodes is None else self._make_resequencer(nodes)
        route = self.router.route if self.resequencer is None else self._route_to_all
        self.put_back = put_back
        busyness = Busyness(clock)
        self.pipeline = Pipeline(
            self.journal, route, config.pipeline, clock, busyness, incarnation=incarnation, put_back=put_back
        )
        self.eraser = Eraser(self.journal, config.eraser, clock, put_back=put_back)
        self.mover, self._announcer = mover, LogAnnouncer(stores.rosters, self.pipeline)
        self.trimmer, self.dialog_purge, self.author_purge = trimmer, dialog_purge, author_purge
        self.receipts = Receipts(
            self.journal, self.registry, self.rooms, incarnation=incarnation, epoch=epoch, put_back=put_back
        )
        positions = Positions(position_key, clock, age_max_s=config.sync.position_age_max_days * DAY_MS / 1000)
        self.horizon = Horizon(
            self.journal,
            positions,
            clock,
            self.pipeline.wait_settled,
            *([] if self.resequencer is None else [self.resequencer.wait_settled, self._wait_grown]),
            self.rooms.wait_settled,
            self.receipts.wait_settled,
            epoch=epoch,
            incarnation=incarnation,
        )
        self.horizon.on_other_history = lock.doubt
        self.peers = None if nodes is None else self._make_peers(nodes)
        self.hints: Hints | None = None
        self._redis = redis
        self._shared_limiter = None if redis is None else SharedRateLimiter(redis.limiter, MemoryRateLimiter(clock))
        self.limiter: RateLimiter = self._shared_limiter or MemoryRateLimiter(clock)
        if nodes is not None and self.peers is not None and self.resequencer is not None and redis is not None:
            self.hints = Hints(
                redis.bus,
                redis.presence,
                self.peers,
                self.rooms,
                self.horizon,
                router=self.router,
                registry=self.registry,
                device_messages=self.device_messages,
                presence=self.presence,
                nodes=nodes,
                read_to_head=self.resequencer.read_to_head,
                spawn=self.spawn,
                clock=clock,
                incarnation=incarnation,
            )
            self.registry.listener = self.hints.signalling.followed.note
            self.receipts.tell = self.hints.signalling.raise_receipt
            self.registry.on_detach = self._detached
        self._keys = Keys(stores.device_keys, self.registry, self.limiter, config.limits, clock)
        self.wheel: TimingWheel[Session] = TimingWheel(clock.monotonic(), tick_s=_TICK_S)
        self._catch_up = CatchUp(self.timelines, stores.shares, clock, page_events=config.sync.page_events)
        self._rates = SessionRates(config.sessions, shared=redis is not None)
        self._shared_rates = None if redis is None else SharedRates(redis.buckets, self._rates, clock)
        self._flush_turn = FlushTurn(asyncio.get_running_loop(), busyness)
        self._tasks: set[asyncio.Task[None]] = set()
        self.acceptor: Acceptor
        self.admin: Acceptor
        self.metrics: Metrics

    async def open(self, identity: Identity) -> None:
        """Listen on both ports. Raises `OSError` when one is taken."""
        context = self.make_session_context(identity)

        def start_session(connection: Connection) -> Session:
            session = Session(connection, context)
            session.start()
            return session

        self.acceptor = Acceptor(
            self.config.gateway,
            start_session,
            identity.app,
            self.clock,
            subprotocols=list(CODECS),
            counts=self._counts,
        )
        self.metrics = Metrics(METRICS, self._parts(identity))
        self.admin = Acceptor(
            GatewaySettings(),
            None,  # no websockets
            admin_app(self.metrics.registry, self.find_obstacle, self.find_trouble, self.find_connected),
            self.clock,
        )
        server = self.config.server
        try:
            _, self.admin_port = await self.admin.listen(server.admin_host, server.admin_port)
            _, self.port = await self.acceptor.listen(server.host, server.port, shared=self._counts is not None)
        except OSError:
            self.admin.stop_accepting()  # the one that could be opened
            raise
        self.ready = True

    async def run(self, identity: Identity) -> None:
        """Run the lanes and all periodic work, until cancelled; raises IncarnationEndedError in a group."""
        self._works = True
        try:
            await self._run(identity)
        finally:
            self._works = False

    async def _run(self, identity: Identity) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._lock.keep(self.incarnation, self._epoch_settled))
            group.create_task(self.pipeline.run())
            group.create_task(self.receipts.run(_RECEIPTS_INTERVAL_S))
            group.create_task((self.peers or self.horizon).run(_HORIZON_INTERVAL_S))
            group.create_task(self._work_locks.run(self._list_jobs(identity)))
            if self.peers is not None:
                group.create_task(self.device_messages.run())
            if self.hints is not None:
                group.create_task(self.hints.run())
            if self._shared_rates is not None:
                group.create_task(self._shared_rates.run())
            for of_the_archive in (self.mover, self.put_back):
                if of_the_archive is not None:
                    group.create_task(of_the_archive.run())
            group.create_task(self._keep_time())
            group.create_task(identity.run())

    def _list_jobs(self, identity: Identity) -> dict[Work, Job]:
        """What one node does for all, beside the mover, which takes its lock by itself."""
        jobs: dict[Work, Job] = {Work.ERASER: self.eraser.run, Work.PURGE: identity.purge}
        jobs[Work.WEBHOOKS] = identity.post_events
        jobs[Work.LOG_ANNOUNCER] = self._announcer.run
        if self.dialog_purge is not None:
            jobs[Work.DIALOG_PURGE] = self.dialog_purge.run
        if self.author_purge is not None:
            jobs[Work.AUTHOR_PURGE] = self.author_purge.run
        if self.trimmer is not None:
            jobs[Work.TRIMMER] = self.trimmer.run
        return jobs

    async def take_first_horizon(self) -> None:
        """Read what positions begin with, before any session is here."""
        if self.peers is None:
            await self.horizon.advance()
        else:
            await self.device_messages.begin()
            await self.peers.look()
            await self.peers.wait_handed_out()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something to its end beside everything else."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def drain(self) -> None:
        """Stop gracefully, within `drain_timeout_s`; at once if the lanes have ended and nothing can finish."""
        self.ready = False
        server = self.config.server
        if not self._works:
            await close_at_once(self.acceptor, self.wheel, timeout_s=_CLOSE_TIMEOUT_S)
            self.admin.stop_accepting()
            return
        await drain(
            self.acceptor,
            self.wheel,
            self.pipeline,
            self.receipts,
            spread_s=server.drain_spread_s,
            timeout_s=server.drain_timeout_s,
        )
        self.admin.stop_accepting()

    def begin_epoch(self, epoch: int, keep: Subscriber | None = None) -> None:
        """Begin an epoch: numbers may have been reissued, so no position, roster, receipt or session outlives it.

        `keep` has not taken its snapshot: it stays, without what it got of the epoch before.
        """
        if epoch == self.horizon.epoch:
            return
        self.horizon.begin_epoch(epoch)
        if self.resequencer is not None:
            self.resequencer.forget_all()
        self.rooms.forget_rosters()
        self.receipts.begin_epoch(epoch)
        for subscriber in self.registry:
            if subscriber is keep:
                subscriber.outbox.forget_behind()
            else:
                subscriber.close(CloseCode.UNAVAILABLE)

    def find_obstacle(self) -> str:
        """What keeps this node from serving, as a sentence; empty when it is ready."""
        return self.pipeline.find_stall() if self.ready else "the node starts or stops"

    def find_trouble(self) -> str:
        """What an operator must look at although this node serves, as a sentence; empty when there is nothing."""
        return find_trouble(self.pipeline, self.horizon, self.mover, self.peers, self.hints)

    def find_connected(self, principals: list[bytes]) -> Here:
        """Who of these is connected to this node, and how far behind."""
        now = self.clock.monotonic()
        return Here(self.name, self.incarnation, find_connected(self.registry, principals, now))

    def tick(self) -> None:
        """Call `tick` of every session that is due."""
        for session in self.wheel.advance(self.clock.monotonic()):
            try:
                session.tick()
            except Exception:  # noqa: BLE001 - a fault of one session must not stop the others
                _log.exception("the tick of a session failed")
                session.connection.abort()

    def _route_to_all(self, durable: Sequence[DurableEvents]) -> None:
        """Deliver here, then tell the other nodes."""
        assert self.resequencer is not None
        self.resequencer.route(durable)
        if self.hints is not None:
            self.hints.publisher.publish(durable)

    def _make_resequencer(self, nodes: Nodes) -> Resequencer:
        return Resequencer(
            nodes,
            self.router.deliver,
            self.rooms.leave_to_sessions,
            self._find_floor,
            self.spawn,
            dialogs_max=self.config.rooms.rooms_max,
        )

    async def _wait_grown(self) -> None:
        """Return once dialogs that became large are registered and read to their heads, and that is in order."""
        if self.hints is not None and self.resequencer is not None:
            await self.hints.large_rooms.wait_settled()
            await self.resequencer.wait_settled()

    def _find_floor(self) -> int:
        assert self.peers is not None
        return self.peers.floor

    def _make_peers(self, nodes: Nodes) -> Peers:
        assert self.resequencer is not None
        lease_s = self.config.cluster.lease_s
        return Peers(
            nodes,
            self.resequencer,
            self.horizon,
            Leases(nodes, self.clock, self.spawn, incarnation=self.incarnation, lease_s=lease_s),
            self.clock,
            incarnation=self.incarnation,
            begin_epoch=self.begin_epoch,
        )

    def _epoch_settled(self, epoch: int) -> None:
        """Begin an epoch that this node settled; where nodes share the database, the next reading of `Peers` does."""
        if self.peers is None:
            self.begin_epoch(epoch)

    def _epoch_seen(self, epoch: int, session: Session) -> None:
        """Begin an epoch that a sync saw. With `Peers` no session may be here before the first reading in it."""
        if self.peers is not None:
            raise StorageUnavailableError(f"epoch {epoch} is about to begin")
        self.begin_epoch(epoch, session)

    async def _keep_time(self) -> None:
        while True:
            due_at = self.clock.monotonic() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self._late_s += max(0.0, self.clock.monotonic() - due_at)
            self.tick()

    async def _arrive(self, session: Session, principal: bytes) -> None:
        """Have other nodes find a session, and its rates go on here as they were left there."""
        assert self.hints is not None
        assert self._shared_rates is not None
        learning = self.spawn(self._shared_rates.learn(session.device, principal))
        await self.hints.large_rooms.arrive(session, principal)
        await learning

    def _detached(self, subscriber: Subscriber) -> None:
        assert self.hints is not None
        assert self._shared_rates is not None
        self.hints.large_rooms.leave(subscriber)
        self._shared_rates.leave(subscriber.device, subscriber.principal)

    def _parts(self, identity: Identity) -> Parts:
        return Parts(
            version=importlib.metadata.version("tchat"),
            name=self.name,
            incarnation=self.incarnation,
            registry=self.registry,
            acceptor=self.acceptor,
            rates=self._rates,
            keys=self._keys,
            catch_up=self._catch_up,
            rooms=self.rooms,
            flush_turn=self._flush_turn,
            receipts=self.receipts,
            pipeline=self.pipeline,
            horizon=self.horizon,
            eraser=self.eraser,
            mover=self.mover,
            peers=self.peers,
            resequencer=self.resequencer,
            put_back=self.put_back,
            trimmer=self.trimmer,
            dialog_purge=self.dialog_purge,
            author_purge=self.author_purge,
            webhooks=identity.count_webhooks,
            paying=identity.paying,
            hints=self.hints,
            redis=self._redis,
            shared_limiter=self._shared_limiter,
            work=self._find_work,
            late_s=lambda: self._late_s,
            connections=self._connections,
        )

    def _find_work(self) -> dict[str, int]:
        """By the name of each sort of work: 1 if this node does it for all, else 0."""
        held = self._work_locks.held
        return {
            each.name.lower(): int(each in held or (each is Work.MOVER and self.mover is not None and self.mover.holds))
            for each in Work
        }

    def make_session_context(self, identity: Identity) -> SessionContext:
        """What every session of this node uses."""
        lifecycle = Lifecycle(
            self.config,
            self.clock,
            tokens=identity.tokens,
            timelines=self.timelines,
            registry=self.registry,
            receipts=self.receipts,
            horizon=self.horizon,
            device_messages=self.device_messages,
            sign_out=identity.sign_out,
            begin_epoch=self._epoch_seen,
            arrive=None if self.hints is None else self._arrive,
            taken_over=None if self.hints is None else self.hints.signalling.take_device,
        )
        handlers = find_handlers(
            Changes(self.pipeline, self.timelines, DailyCaps(self.config.limits, self.limiter)),
            Content(self.pipeline),
            Reads(self.timelines, self._stores.shares),
            self._keys,
            PaymentHandlers(identity.paying, self.spawn),
            *self._stores.make_handlers(self.device_messages, self._archive, self.limiter, self.config, self.clock),
            Signals(
                self.timelines,
                self.rooms,
                self.receipts,
                self.presence,
                tell_typing=None if self.hints is None else self.hints.signalling.show_typing,
                find_online=None if self.hints is None else self.hints.signalling.followed.find_online,
            ),
            lifecycle,
        )
        return SessionContext(
            clock=self.clock,
            settings=self.config.sessions,
            handlers=handlers,
            catch_up=self._catch_up,
            registry=self.registry,
            presence=self.presence,
            horizon=self.horizon,
            wheel=self.wheel,
            rates=self._rates,
            flush_turn=self._flush_turn,
        )
