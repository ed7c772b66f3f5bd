"""Several real nodes on one database, without Redis: what one writes reaches the sessions of the others."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from protocol.bodies import TimelineEvent
from protocol.close_codes import CloseCode
from protocol.commands import Add, Create, Edit, Heartbeat, Remove, Send
from protocol.device_commands import DeviceMessage, SendToDevice
from protocol.dialog_types import DialogType, Mode
from protocol.events import DialogState, FromDevice, HeartbeatReply, KeySlices
from protocol.ids import new_id
from protocol.replies import Acked, Synced
from server.config.settings import ClusterSettings
from server.delivery import device_messages, resequencer
from server.node import composition
from server.node.drain import close_at_once
from server.node.running_node import cancel_and_wait
from storage.postgres.incarnations import DatabaseInUseError, NodeLock
from storage.unavailable import IncarnationEndedError
from tests.support.harness import Running, Wire, configured, running
from tests.support.sealing import one_device_of, sealed, upload
from tests.support.turns import until

pytestmark = pytest.mark.anyio

MESSAGES = 30
SESSION = b"1" * 32


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes read the cluster fifty times a second, not once."""
    monkeypatch.setattr(composition, "_HORIZON_INTERVAL_S", 0.02)
    monkeypatch.setattr(device_messages, "INTERVAL_S", 0.02)


@contextlib.asynccontextmanager
async def nodes(url: str, count: int, *, lease_s: float = 30.0) -> AsyncIterator[list[Running]]:
    """So many nodes that share a database; no Redis is there."""
    config = configured(cluster=ClusterSettings(redis_urls=("redis://127.0.0.1:1",), lease_s=lease_s))
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(url, config)) for _ in range(count)]


async def kill(node: Running) -> None:
    """Have a node do nothing any more, and leave its clients without a word."""
    await cancel_and_wait(node.work)
    node.node.acceptor.abort_all()


async def seqs_to(wire: Wire, last: int, dialog: bytes) -> list[int]:
    """The numbers of a dialog that come, up to this one."""
    seqs: list[int] = []
    async with asyncio.timeout(20):
        while last not in seqs:
            event = await wire.until(TimelineEvent)
            if event.dialog == dialog:
                seqs.append(event.seq)
    return seqs


async def talk(wire: Wire, dialog: bytes, first_n: int, count: int = MESSAGES) -> None:
    """Send, one message after the other; events are kept for the reader."""
    for n in range(first_n, first_n + count):
        await wire.send(Send(0, dialog, n, b"hello"))
        await asyncio.sleep(0)


async def position_of(wire: Wire) -> str:
    """The position of a live session, now."""
    await wire.send(Heartbeat(0))
    reply: HeartbeatReply = await wire.until(HeartbeatReply)
    return reply.position


async def passed(node: Running) -> None:
    """Return when the positions of a node have passed all that has been committed until now."""
    stamp = await node.world.pool.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    await until(lambda: node.node.horizon.reached >= stamp)


def gaps_read(running_nodes: list[Running]) -> int:
    """How many events the nodes have read because they missed them."""
    return sum(node.node.resequencer.gaps_read for node in running_nodes if node.node.resequencer)


async def test_what_one_node_writes_reaches_a_session_of_another(database_url: str) -> None:
    async with nodes(database_url, 2) as (one, two):
        ann, bo = await one.world.people(2)
        async with one.live(ann) as a, two.live(bo) as b:
            dialog = (await a.ask(Create(3, 1, DialogType.DIRECT, [bo.principal], mode=Mode.OPEN))).dialog
            assert (await b.until(DialogState)).dialog == dialog
            for n in (2, 3):
                assert isinstance(await a.ask(Send(n + 2, dialog, n, b"hello")), Acked)
            assert (await seqs_to(b, 3, dialog))[-2:] == [2, 3]
            assert isinstance(await b.ask(Send(9, dialog, 1, b"hello")), Acked)
            assert (await seqs_to(a, 4, dialog))[-1] == 4


async def test_a_message_to_a_device_reaches_its_connection_at_another_node(database_url: str) -> None:
    async with nodes(database_url, 2) as (one, two):
        ann, bo = await one_device_of(one.world), await one_device_of(one.world)
        dialog = await one.world.create(DialogType.DIRECT, ann, bo)
        async with one.live(ann) as a, two.live(bo) as b:
            for number in (1, 2):
                await a.ask(SendToDevice(3, new_id(), dialog, [DeviceMessage(bo.device, b"hello")]))
                assert (await b.until(FromDevice)).number == number


async def test_what_one_node_writes_brings_its_keys_to_a_session_of_another(database_url: str) -> None:
    async with nodes(database_url, 2) as (one, two):
        ann, bo = await one_device_of(one.world), await one_device_of(one.world)
        async with one.live(ann) as a, two.live(bo) as b:
            dialog = (await a.ask(Create(3, 1, DialogType.DIRECT, [bo.principal]))).dialog
            assert (await b.until(TimelineEvent)).seq == 1
            share = await upload(a, dialog, SESSION, bo)
            assert isinstance(await a.ask(Send(4, dialog, 2, b"sealed", sealed(SESSION, share))), Acked)
            (keys,) = (await b.until(KeySlices)).slices
            assert (keys.dialog, keys.device, keys.body) == (dialog, ann.device, b"keys" + bo.device)
            assert (await b.until(TimelineEvent)).seq == 2


async def test_a_dialog_that_several_nodes_write_is_in_one_order_for_all_and_nothing_comes_twice(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resequencer, "GAP_WAIT_S", 0.0)  # else the next reading brings what is missing
    async with nodes(database_url, 3) as running_nodes, contextlib.AsyncExitStack() as stack:
        one = running_nodes[0]
        people = await one.world.people(5)
        dialog = await one.world.create(DialogType.GROUP, *people)
        homes = [running_nodes[at % 3] for at in range(5)]
        for node in running_nodes:
            await passed(node)  # nobody syncs what is about to be delivered, too
        wires = [await stack.enter_async_context(home.live(person)) for home, person in zip(homes, people, strict=True)]
        last, first_n = 1, 100
        while not gaps_read(running_nodes):  # in one round, the nodes may happen to hear of each other in order
            first, last = last + 1, last + MESSAGES * 3
            got = [asyncio.ensure_future(seqs_to(wire, last, dialog)) for wire in wires]
            await asyncio.gather(*(talk(wire, dialog, first_n) for wire in wires[:3]))
            assert await asyncio.gather(*got) == [list(range(first, last + 1))] * 5
            first_n += MESSAGES


async def test_who_is_added_or_removed_by_another_node_learns_it_and_nothing_after_the_end(database_url: str) -> None:
    async with nodes(database_url, 2) as (one, two):
        ann, bo, cy, di = await one.world.people(4)
        dialog = await one.world.create(DialogType.GROUP, ann, bo, cy)
        await passed(two)
        async with one.live(ann) as a, two.live(bo) as b, two.live(cy) as c, two.live(di) as d:
            for command in (
                Send(10, dialog, 10, b"two"),
                Add(11, dialog, 11, [di.principal]),
                Edit(12, dialog, 12, 2, b"edited"),
                Remove(13, dialog, 13, bo.principal),
                Send(14, dialog, 14, b"after"),
            ):
                assert isinstance(await a.ask(command), Acked)
            assert await seqs_to(c, 6, dialog) == [2, 3, 4, 5, 6]
            assert (await d.until(DialogState)).dialog == dialog
            assert set(await seqs_to(d, 6, dialog)) >= {3, 4, 5, 6}
            assert await seqs_to(b, 5, dialog) == [2, 3, 4, 5]
            await b.send(Heartbeat(9))  # what comes next is the answer, and no event of the dialog
            assert not isinstance(await b.receive(), TimelineEvent)


async def test_a_live_session_gets_all_that_a_killed_node_wrote_without_a_reconnect(database_url: str) -> None:
    async with nodes(database_url, 3, lease_s=0.2) as (one, two, three):
        ann, bo, cy = await one.world.people(3)
        dialog = await one.world.create(DialogType.GROUP, ann, bo, cy)
        await passed(two)
        async with two.live(bo) as b, three.live(cy) as c:
            async with one.live(ann) as a:
                for n in range(100, 110):
                    assert isinstance(await a.ask(Send(n, dialog, n, b"hello")), Acked)
                await kill(one)
            assert await seqs_to(b, 11, dialog) == list(range(2, 12))
            fenced = "SELECT fenced_at_ms FROM incarnations WHERE incarnation = $1"
            while not await two.world.pool.fetchval(fenced, one.node.incarnation):
                pass
            await until(lambda: two.node.peers and one.node.incarnation not in two.node.peers.living)
            assert isinstance(await c.ask(Send(3, dialog, 50, b"after")), Acked)
            assert await seqs_to(b, 12, dialog) == [12]
        assert one.node.incarnation != two.node.incarnation


async def test_a_resume_on_another_node_brings_exactly_what_was_missed(database_url: str) -> None:
    async with nodes(database_url, 2) as (one, two):
        ann, bo = await one.world.people(2)
        dialog = await one.world.create(DialogType.DIRECT, ann, bo)
        async with two.live(ann) as a:
            async with one.live(bo) as b:
                for n in range(100, 105):
                    await a.ask(Send(n, dialog, n, b"hello"))
                assert await seqs_to(b, 6, dialog) == [2, 3, 4, 5, 6]
                await passed(one)
                position = await position_of(b)
                await kill(one)
            for n in range(105, 110):
                await a.ask(Send(n, dialog, n, b"hello"))
            async with two.live(bo, position=position) as b:
                synced, _state, *events = b.caught_up
                assert isinstance(synced, Synced)
                assert synced.recovered
                assert [event.seq for event in events if isinstance(event, TimelineEvent)] == [7, 8, 9, 10, 11]


async def test_a_position_covers_nothing_that_the_session_has_not_got(database_url: str) -> None:
    """However early it is taken: what the session lacks comes with the resume, and no number is left out."""
    async with nodes(database_url, 2) as (one, two):
        ann, bo = await one.world.people(2)
        dialog = await one.world.create(DialogType.DIRECT, ann, bo)
        async with two.live(ann) as a:
            for first_n in range(100, 160, 6):
                got: list[int] = []
                async with one.live(bo) as b:
                    for n in range(first_n, first_n + 6):
                        await a.ask(Send(n, dialog, n, b"hello"))
                    await b.send(Heartbeat(0))
                    while not isinstance(message := await b.receive(), HeartbeatReply):
                        if isinstance(message, TimelineEvent):
                            got.append(message.seq)
                async with two.live(bo, position=message.position) as b:
                    again = [event.seq for event in b.caught_up if isinstance(event, TimelineEvent)]
                head = 1 + first_n - 100 + 6
                assert {*range(head - 5, head + 1)} <= {*got, *again}


async def test_a_stuck_write_of_a_node_holds_up_nothing_of_the_others(database_url: str) -> None:
    """Its own positions wait, because that write may be durable; what others write is delivered."""
    async with nodes(database_url, 2) as (one, two):
        ann, bo = await one.world.people(2)
        dialog = await one.world.create(DialogType.DIRECT, ann, bo)
        stuck = await one.world.create(DialogType.SELF, bo)
        async with one.live(ann) as a, two.live(bo) as b:
            await passed(two)
            async with one.world.held(stuck) as other:
                await b.send(Send(3, stuck, 50, b"hello"))
                await until(lambda: two.node.pipeline.oldest_flush_s > 0)
                holder = await other.fetchval("SELECT pg_current_xact_id()::text::bigint")
                for n in (50, 51, 52):
                    assert isinstance(await a.ask(Send(n, dialog, n, b"hello")), Acked)
                    assert await seqs_to(b, n - 48, dialog) == [n - 48]
                assert two.node.horizon.reached <= holder


async def test_a_node_that_stood_still_for_longer_than_its_lease_stops_when_it_wakes(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nodes(database_url, 2, lease_s=0.2) as (one, two):
        ann, bo = await one.world.people(2)
        dialog = await one.world.create(DialogType.DIRECT, ann, bo)
        assert one.node.peers is not None
        awake = asyncio.Event()
        look = one.node.peers.look

        async def sleep_then_look() -> bool:
            await awake.wait()
            return await look()

        monkeypatch.setattr(one.node.peers, "look", sleep_then_look)
        async with one.live(ann) as a, two.live(bo) as b:
            fenced = "SELECT fenced_at_ms FROM incarnations WHERE incarnation = $1"
            while not await two.world.pool.fetchval(fenced, one.node.incarnation):
                pass
            assert isinstance(await b.ask(Send(3, dialog, 50, b"hello")), Acked)
            awake.set()
            await asyncio.wait({one.work})
            error = one.work.exception()
            assert isinstance(error, ExceptionGroup)
            assert error.subgroup(IncarnationEndedError) is not None
            await close_at_once(one.node.acceptor, one.node.wheel, timeout_s=1.0)
            assert await a.close_code() == CloseCode.UNAVAILABLE
        async with two.live(ann) as a:
            assert isinstance(await a.ask(Send(3, dialog, 50, b"hello")), Acked)


async def test_a_node_that_stops_is_fenced_at_once(database_url: str) -> None:
    async with nodes(database_url, 1) as (one,):
        async with nodes(database_url, 1) as (two,):
            incarnation = two.node.incarnation
        fenced = "SELECT fenced_at_ms FROM incarnations WHERE incarnation = $1"
        assert await one.world.pool.fetchval(fenced, incarnation)


async def test_nodes_that_start_together_are_of_one_epoch_and_have_lives_of_their_own(database_url: str) -> None:
    config = configured(cluster=ClusterSettings(redis_urls=("redis://127.0.0.1:1",)))
    async with contextlib.AsyncExitStack() as stack:
        starting = [stack.enter_async_context(running(database_url, config)) for _ in range(3)]
        started = await asyncio.gather(*starting)
        assert len({node.node.incarnation for node in started}) == 3
        assert {node.node.horizon.epoch for node in started} == {
            await started[0].world.pool.fetchval("SELECT epoch FROM deployment")
        }


async def test_a_node_serves_alone_or_shares_but_not_both(database_url: str) -> None:
    async with nodes(database_url, 1):
        with pytest.raises(DatabaseInUseError, match=r"set cluster.redis_urls in both"):
            await NodeLock.take(database_url, patience_s=0.0)
    async with running(database_url):
        with pytest.raises(DatabaseInUseError):
            await NodeLock.take(database_url, shared=True, patience_s=0.0)


@pytest.mark.parametrize("count", [1, 2])
async def test_a_promotion_that_breaks_no_connection_begins_an_epoch_in_seconds(database_url: str, count: int) -> None:
    alone = running(database_url, configured()) if count == 1 else None
    async with contextlib.AsyncExitStack() as stack:
        served = (
            [await stack.enter_async_context(alone)]
            if alone
            else await stack.enter_async_context(nodes(database_url, count))
        )
        (ann,) = await served[0].world.people(1)
        before = served[0].node.horizon.epoch
        async with served[-1].live(ann) as a:
            await served[0].world.pool.execute("UPDATE deployment SET timeline_id = timeline_id - 1")
            assert await a.close_code() == CloseCode.UNAVAILABLE
        await until(lambda: len({node.node.horizon.epoch for node in served}) == 1)
        assert served[0].node.horizon.epoch > before
        async with served[-1].live(ann):
            pass


async def test_an_epoch_that_another_node_began_closes_every_session_here(database_url: str) -> None:
    async with nodes(database_url, 2) as (one, two):
        ann, bo = await one.world.people(2)
        dialog = await one.world.create(DialogType.DIRECT, ann, bo)
        async with one.live(ann) as a, two.live(bo) as b:
            await one.world.pool.execute("UPDATE deployment SET epoch = epoch + 1")
            assert await a.close_code() == await b.close_code() == CloseCode.UNAVAILABLE
        await until(lambda: one.node.horizon.epoch == two.node.horizon.epoch and one.node.horizon.reached)
        async with one.live(ann) as a, two.live(bo) as b:
            assert isinstance(await a.ask(Send(3, dialog, 50, b"hello")), Acked)
            assert await seqs_to(b, 2, dialog) == [2]
