"""Two real nodes and a real Redis. Nothing happens by the clock: readings of the journal and ticks are the test's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
import pytest
import redis

from protocol.bodies import TimelineEvent, TimelineEventRaw
from protocol.close_codes import CloseCode
from protocol.commands import Add, Create, HighWaterMark, PresenceSubscribe, Receipt, Send, Typing
from protocol.device_commands import DeviceMessage, SendToDevice
from protocol.dialog_types import DialogType, Mode
from protocol.errors import ErrorCode
from protocol.events import DialogState, FromDevice, KeySlices, PresenceChanged, ReceiptChanged, TypingChanged
from protocol.ids import new_id
from protocol.replies import Acked, Failed
from server.cluster import hints as hints_module
from server.cluster import whereabouts as whereabouts_module
from server.cluster.hints import Hints
from server.cluster.peers import Peers
from server.config.settings import ClusterSettings, SessionSettings
from server.delivery import device_messages as device_messages_module
from server.node import composition
from server.session import shared_rates as shared_rates_module
from server.writing.durable import DurableEvents
from storage.bus import Located
from storage.nodes import LARGE_ABOVE
from storage.postgres.nodes import PostgresNodes
from tests.engines.redis_server import RedisServer
from tests.support.harness import Running, Wire, configured, running
from tests.support.sealing import one_device_of, sealed, upload
from tests.support.turns import until
from tests.support.world import Person

pytestmark = pytest.mark.anyio

NEVER_S = 3600.0
BURST = 12


class Pair:
    """Two nodes that share a database and a Redis."""

    def __init__(self, one: Running, two: Running, server: RedisServer) -> None:
        self.one, self.two, self.server = one, two, server

    async def look(self) -> None:
        """Let each read the journal, as far as it must."""
        for running_node in (self.one, self.two):
            while await peers_of(running_node).look():
                pass

    async def become_whole(self) -> None:
        """Let them check their presence, read and tick until neither needs the journal to hear the other."""
        async with asyncio.timeout(30):
            while peers_of(self.one).in_doubt or peers_of(self.two).in_doubt:
                for each in (self.one, self.two):
                    await hints_of(each).whereabouts.check()
                    await hints_of(each).tick()
                await self.look()

    @property
    def rows_read(self) -> int:
        """Rows that came through the journal."""
        return peers_of(self.one).rows_read + peers_of(self.two).rows_read


def peers_of(running_node: Running) -> Peers:
    assert running_node.node.peers is not None
    return running_node.node.peers


def hints_of(running_node: Running) -> Hints:
    assert running_node.node.hints is not None
    return running_node.node.hints


async def end_all_but(pair: Pair) -> None:
    """End the incarnations of the test's own worlds, which write for no node."""
    nodes = PostgresNodes(pair.one.world.pool, pair.one.world.pool)
    reading = await nodes.read_cluster(incarnation=pair.one.node.incarnation, since=0)
    for each in {row.incarnation for row in reading.incarnations} - {
        pair.one.node.incarnation,
        pair.two.node.incarnation,
    }:
        await nodes.end(each, lease=None)
        await nodes.fence(each)


@pytest.fixture
async def pair(
    database_url: str, start_redis: Callable[[], RedisServer], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Pair]:
    for module, interval in (
        (composition, "_HORIZON_INTERVAL_S"),
        (hints_module, "TICK_S"),
        (whereabouts_module, "CHECK_EVERY_S"),
        (shared_rates_module, "INTERVAL_S"),
        (device_messages_module, "INTERVAL_S"),
    ):
        monkeypatch.setattr(module, interval, NEVER_S)
    server = start_redis()
    config = configured(
        cluster=ClusterSettings(redis_urls=(server.url,)),
        sessions=SessionSettings(sends_per_s=0.01, sends_burst=BURST),  # a bucket stays as a test leaves it
    )
    async with contextlib.AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(running(database_url, config)) for _ in range(2)]
        pair = Pair(one, two, server)
        await end_all_but(pair)
        await pair.look()
        await pair.become_whole()
        yield pair


@contextlib.asynccontextmanager
async def talk(pair: Pair) -> AsyncIterator[tuple[Wire, Wire, bytes]]:
    """Two people at two nodes, and their direct dialog."""
    ann, bo = await pair.one.world.people(2)
    async with pair.one.live(ann) as a, pair.two.live(bo) as b:
        dialog = (await a.ask(Create(3, 1, DialogType.DIRECT, [bo.principal], mode=Mode.OPEN))).dialog
        assert (await b.until(DialogState)).dialog == dialog
        yield a, b, dialog


async def say(wire: Wire, dialog: bytes, n: int) -> None:
    assert isinstance(await wire.ask(Send(n + 100, dialog, n, b"hello")), Acked)


async def seq_of_next(wire: Wire) -> int:
    event: TimelineEvent = await wire.until(TimelineEvent)
    return event.seq


async def test_what_is_said_crosses_without_the_journal(pair: Pair) -> None:
    async with talk(pair) as (a, b, dialog):
        assert await seq_of_next(b) == 1  # the dialog's first event
        for n in (2, 3, 4):
            await say(a, dialog, n)
            assert await seq_of_next(b) == n
        await say(b, dialog, 1)
        while await seq_of_next(a) != 5:
            pass
        assert pair.rows_read == 0


async def test_keys_come_before_what_is_told_over_redis(pair: Pair) -> None:
    ann, bo = [await one_device_of(pair.one.world) for _ in range(2)]
    async with pair.one.live(ann) as a, pair.two.live(bo) as b:
        dialog = (await a.ask(Create(3, 1, DialogType.DIRECT, [bo.principal]))).dialog
        assert await seq_of_next(b) == 1
        share = await upload(a, dialog, bytes(32), bo)
        assert isinstance(await a.ask(Send(4, dialog, 2, b"sealed", sealed(bytes(32), share))), Acked)
        (keys,) = (await b.until(KeySlices)).slices
        assert (keys.dialog, keys.body) == (dialog, b"keys" + bo.device)
        assert await seq_of_next(b) == 2
        assert pair.rows_read == 0


async def test_a_message_to_a_device_crosses_before_a_node_looks_for_it(pair: Pair) -> None:
    ann, bo = await one_device_of(pair.one.world), await one_device_of(pair.one.world)
    dialog = await pair.one.world.create(DialogType.DIRECT, ann, bo)
    async with pair.one.live(ann) as a, pair.two.live(bo) as b:
        await a.ask(SendToDevice(3, new_id(), dialog, [DeviceMessage(bo.device, b"hello")]))
        async with asyncio.timeout(10):
            assert (await b.until(FromDevice)).body == b"hello"


async def test_a_dialog_that_becomes_large_is_heard_without_the_journal(
    pair: Pair,
) -> None:
    ann, bo, cy, di, *others = await pair.one.world.people(LARGE_ABOVE + 1)
    members = [each.principal for each in (bo, di, *others)]
    async with pair.one.live(ann) as a, pair.two.live(bo) as b, pair.two.live(cy) as c:
        dialog = (await a.ask(Create(3, 1, DialogType.GROUP, members, "g", mode=Mode.OPEN))).dialog
        assert (await b.until(DialogState)).dialog == dialog
        await a.ask(Add(4, dialog, 2, [cy.principal]))
        assert (await c.until(DialogState)).dialog == dialog
        await until(lambda: all(len(hints_of(each).large_rooms) for each in (pair.one, pair.two)))
        await say(a, dialog, 3)
        for wire in (b, c):
            while await seq_of_next(wire) != 3:
                pass
        async with pair.two.live(di) as d:
            await say(a, dialog, 4)
            while await seq_of_next(d) != 4:
                pass
        assert pair.rows_read == 0


async def test_positions_move_by_ticks_alone(pair: Pair) -> None:
    async with talk(pair) as (a, b, dialog):
        await say(a, dialog, 2)
        while await seq_of_next(b) != 2:
            pass
        before = pair.two.node.horizon.reached
        await pair.look()
        for _ in range(2):
            await hints_of(pair.one).tick()
            await peers_of(pair.one).wait_handed_out()
            await pair.look()
            await peers_of(pair.two).wait_handed_out()
        assert pair.two.node.horizon.reached > before
        assert (pair.rows_read, peers_of(pair.two).in_doubt) == (0, 0)


async def test_a_tick_follows_what_was_delivered_before_it(pair: Pair) -> None:
    async with talk(pair) as (_a, _b, dialog):
        hints = hints_of(pair.one)
        await hints.tick()
        sent = hints.publisher.rows
        event = TimelineEventRaw(dialog, 9, dialog, dialog, 1, 0, 0, msgspec.Raw(b"\x91\x05"))
        hints.publisher.publish([DurableEvents(dialog, (event,), 1)])
        await hints.tick()
        assert hints.publisher.rows == sent + 1


async def test_without_redis_all_is_acked_and_comes_through_the_journal_and_it_heals(pair: Pair) -> None:
    async with talk(pair) as (a, b, dialog):
        pair.server.kill()
        await say(a, dialog, 2)
        await say(a, dialog, 3)
        for each in (pair.one, pair.two):
            await hints_of(each).whereabouts.check()
        await pair.look()
        while await seq_of_next(b) != 3:
            pass
        assert pair.rows_read > 0
        pair.server.start()
        await pair.become_whole()
        read = pair.rows_read
        await say(a, dialog, 4)
        assert await seq_of_next(b) == 4
        assert pair.rows_read == read


async def test_who_syncs_while_redis_is_away_misses_nothing(pair: Pair) -> None:
    async with talk(pair) as (a, _, dialog):
        pair.server.pause()
        cy = await pair.two.world.person()
        async with pair.two.live(cy) as c:
            assert not hints_of(pair.two).whereabouts.token
            pair.server.resume()
            group = (await a.ask(Create(4, 5, DialogType.DIRECT, [cy.principal], mode=Mode.OPEN))).dialog
            await pair.look()
            assert (await c.until(DialogState)).dialog == group != dialog


async def test_a_wipe_loses_nothing(pair: Pair) -> None:
    async with talk(pair) as (a, b, dialog):
        with redis.Redis(port=pair.server.port) as operator:
            operator.flushall()
        await say(a, dialog, 2)
        await hints_of(pair.one).tick()
        await until(lambda: peers_of(pair.two).in_doubt == 1)
        await pair.look()
        while await seq_of_next(b) != 2:
            pass


async def test_cut_subscriptions_are_doubts(pair: Pair) -> None:
    async with talk(pair):
        with redis.Redis(port=pair.server.port) as operator:
            operator.client_kill_filter(_type="pubsub")
        await until(lambda: peers_of(pair.two).in_doubt == 1 == peers_of(pair.one).in_doubt)


async def test_the_newest_connection_of_a_device_stays_on_whichever_node(pair: Pair) -> None:
    ann = await pair.one.world.person()
    async with pair.one.live(ann) as older, pair.two.live(ann) as newer:
        assert await older.close_code() == CloseCode.REPLACED
        async with pair.one.live(ann):
            assert await newer.close_code() == CloseCode.REPLACED


async def test_a_node_that_took_an_older_connection_is_told_of_the_newer(pair: Pair) -> None:
    ann = await pair.one.world.person()
    async with pair.one.live(ann) as older:
        signalling = hints_of(pair.two).signalling
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(signalling, "_send", lambda *_signal: None)  # lost on the way
            async with pair.two.live(ann):
                [subscriber] = pair.one.node.registry.subscribers_of(ann.principal)
                hints_of(pair.one).signalling.take_device(subscriber)
                assert await older.close_code() == CloseCode.REPLACED


async def test_typing_and_receipts_cross(pair: Pair) -> None:
    async with talk(pair) as (a, b, dialog):
        await until(lambda: all(each.outbox.live for each in pair.two.node.registry))  # typing is not held
        await a.ask(Typing(4, dialog, active=True))
        assert (await b.until(TypingChanged)).active
        await say(a, dialog, 2)
        while await seq_of_next(b) != 2:
            pass
        await b.ask(Receipt(5, HighWaterMark(dialog, 2, 2)))
        await pair.two.node.receipts.flush()
        receipt: ReceiptChanged = await a.until(ReceiptChanged)
        assert (receipt.dialog, receipt.read) == (dialog, 2)


async def test_a_node_that_was_ended_between_a_commit_and_its_publish_tells_nobody_anything(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with talk(pair) as (a, b, dialog):
        goes_on = asyncio.Event()
        one, peers = hints_of(pair.one), peers_of(pair.two)
        locate = one.publisher._store.locate

        async def locate_later(principals: Sequence[bytes]) -> Located:
            await goes_on.wait()
            return await locate(principals)

        monkeypatch.setattr(one.publisher._store, "locate", locate_later)
        await say(a, dialog, 2)  # durable, acked, and told to nobody
        nodes, ended = PostgresNodes(pair.one.world.pool, pair.one.world.pool), pair.one.node.incarnation
        await nodes.end(ended, lease=None)
        await nodes.fence(ended)
        while await peers.look() or not peers.has_ended(ended):
            pass
        while await seq_of_next(b) != 2:
            pass
        asked: list[int] = []

        def has_ended(source: int) -> bool:
            asked.append(source)
            return source == ended

        monkeypatch.setattr(peers, "has_ended", has_ended)
        rows, heard = hints_of(pair.two).receiver.rows, peers.doubts
        goes_on.set()
        await one.tick()
        await until(lambda: len(asked) >= 2)  # the row, and the tick after it
        assert (hints_of(pair.two).receiver.rows, peers.doubts) == (rows, heard)
        refused = await a.ask(Send(9, dialog, 3, b"hello"))
        assert isinstance(refused, Failed)
        assert refused.code == ErrorCode.UNAVAILABLE


@contextlib.asynccontextmanager
async def follow(pair: Pair) -> AsyncIterator[tuple[Wire, Person]]:
    """Somebody at the first node who follows somebody else."""
    ann, bo = await pair.one.world.people(2)
    async with pair.one.live(ann) as a:
        await a.ask(Create(3, 1, DialogType.DIRECT, [bo.principal], mode=Mode.OPEN))
        await a.ask(PresenceSubscribe(4, [bo.principal]))
        assert not (await a.until(PresenceChanged)).online
        yield a, bo


async def test_presence_crosses_and_ends_at_the_last_node(pair: Pair) -> None:
    async with follow(pair) as (a, bo), pair.two.live(bo) as b:
        assert (await a.until(PresenceChanged)).online
        async with pair.one.live(bo):
            assert await b.close_code() == CloseCode.REPLACED
        shown: PresenceChanged = await a.until(PresenceChanged)
        assert (shown.principal, shown.online) == (bo.principal, False)


async def test_who_follows_is_shown_who_is_at_another_node_already(pair: Pair) -> None:
    async with follow(pair) as (a, bo), pair.two.live(bo):
        assert (await a.until(PresenceChanged)).online
        async with pair.one.live(await pair.one.world.person()) as c:
            await c.ask(Create(3, 1, DialogType.DIRECT, [bo.principal], mode=Mode.OPEN))
            await c.ask(PresenceSubscribe(4, [bo.principal]))
            assert (await c.until(PresenceChanged)).online


async def test_who_was_at_a_node_that_has_ended_is_shown_as_offline(pair: Pair) -> None:
    async with follow(pair) as (a, bo), pair.two.live(bo):
        assert (await a.until(PresenceChanged)).online
        nodes = PostgresNodes(pair.one.world.pool, pair.one.world.pool)
        await nodes.end(pair.two.node.incarnation, lease=None)
        await nodes.fence(pair.two.node.incarnation)
        while peers_of(pair.one).living:
            await peers_of(pair.one).look()
        await hints_of(pair.one).tick()
        assert not (await a.until(PresenceChanged)).online


async def test_who_left_while_redis_was_away_is_shown_as_offline_once_it_is_back(pair: Pair) -> None:
    async with follow(pair) as (a, bo):
        async with pair.two.live(bo):
            assert (await a.until(PresenceChanged)).online
            pair.server.pause()
        await until(lambda: not pair.two.node.registry.is_online(bo.principal))
        pair.server.resume()
        await pair.become_whole()
        await hints_of(pair.one).tick()
        assert not (await a.until(PresenceChanged)).online


async def test_a_device_that_goes_to_another_node_goes_on_with_its_bucket(pair: Pair) -> None:
    ann, bo = await pair.one.world.people(2)
    async with pair.one.live(ann) as a:
        dialog = (await a.ask(Create(3, 1, DialogType.DIRECT, [bo.principal], mode=Mode.OPEN))).dialog
        for n in range(2, BURST + 1):
            await say(a, dialog, n)
    with redis.Redis(port=pair.server.port) as operator:
        await until(lambda: list(operator.scan_iter("*:bucket:*")))
    async with pair.two.live(ann) as a:
        for n in (BURST + 1, BURST + 2):
            await a.send(Send(n + 100, dialog, n, b"more than the bucket holds"))
        await until(lambda: pair.two.node._rates.sends.paced)
