"""Above its rate a device waits and is not refused; the rate outlives the connection; before sign-in all is small."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from websockets.exceptions import ConnectionClosed

from protocol.close_codes import CloseCode
from protocol.codec import MSGPACK
from protocol.commands import Authenticate, Heartbeat, History, Send
from protocol.dialog_types import DialogType
from protocol.errors import ErrorCode
from protocol.events import HeartbeatReply
from protocol.ids import new_id
from protocol.limits import SEND_UNIT_BYTES
from protocol.replies import Acked, Authenticated, Failed, Reply
from server.config.settings import SessionSettings
from server.delivery.registry import AWAITED_MAX
from server.refusals import RequestRefusedError
from tests.support.clock import ManualClock
from tests.support.harness import Running, Wire, configured, running
from tests.support.turns import until
from tests.support.world import Person

pytestmark = pytest.mark.anyio

SLOW = SessionSettings(sends_per_s=1.0, sends_burst=2, principal_rate_factor=1.5)
RUBBISH = b"\xc1"


@pytest.fixture
async def node(database_url: str, clock: ManualClock) -> AsyncIterator[Running]:
    """A node that takes one send a second from a device, two at once; the test moves its clock."""
    async with running(database_url, configured(sessions=SLOW), clock) as it:
        yield it


def pass_time(it: Running, clock: ManualClock, seconds: int) -> None:
    """Move the clock second by second, as the node's wheel sees it."""
    for _ in range(seconds):
        clock.advance(1.0)
        it.node.tick()


async def replies(wire: Wire, count: int) -> list[Reply]:
    return [await wire.until(Reply) for _ in range(count)]


async def test_above_the_rate_sends_wait_and_are_acked_in_order(node: Running, clock: ManualClock) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    async with node.live(ann) as wire:
        session = node.session_of(ann)
        for n in range(2, 8):
            await wire.send(Send(n, dialog, n, b"x"))
        assert [reply.id for reply in await replies(wire, 2)] == [2, 3]
        await until(lambda: len(session._mailbox.commands) == 4)
        for n in range(4, 8):
            pass_time(node, clock, 1)
            (acked,) = await replies(wire, 1)
            assert isinstance(acked, Acked)
            assert (acked.n, acked.seq, len(session._mailbox.commands)) == (n, n, 7 - n)


async def test_a_large_send_counts_as_several(node: Running, clock: ManualClock) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    async with node.live(ann) as wire:
        session = node.session_of(ann)
        await wire.send(Send(2, dialog, 2, bytes(SEND_UNIT_BYTES)))
        await wire.send(Send(3, dialog, 3, b"x"))
        assert [reply.id for reply in await replies(wire, 1)] == [2]
        await until(lambda: len(session._mailbox.commands) == 1)
        pass_time(node, clock, 1)
        assert [reply.id for reply in await replies(wire, 1)] == [3]


async def test_a_thousand_messages_written_offline_are_acked_at_the_rate_and_none_is_refused(
    database_url: str, clock: ManualClock
) -> None:
    async with running(database_url, configured(), clock) as node:
        ann, bo = await node.world.people(2)
        dialog = await node.world.create(DialogType.DIRECT, ann, bo)
        async with node.live(ann) as wire:
            session = node.session_of(ann)
            for n in range(1000):
                await wire.send(Send(n + 1, dialog, n + 2, b"x"))
            answered = await replies(wire, 100)
            while len(answered) < 1000:
                await until(lambda: len(session._mailbox.commands) >= 20)
                assert len(session._mailbox.commands) <= 256
                pass_time(node, clock, 1)
                answered += await replies(wire, 20)
            assert [(type(reply), reply.id) for reply in answered] == [(Acked, each + 1) for each in range(1000)]


async def test_a_paced_session_hears_heartbeats_and_is_not_idle(node: Running, clock: ManualClock) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    async with node.live(ann) as wire:
        for n in range(2, 300):
            await wire.send(Send(n, dialog, n, b"x"))
        session = node.session_of(ann)
        await until(lambda: not session._mailbox.reading)
        pass_time(node, clock, 90)
        heard = [await wire.receive() for _ in range(100)]
        assert sum(isinstance(message, HeartbeatReply) for message in heard) >= 2
        assert not any(isinstance(message, Failed) for message in heard)
        wire.socket.transport.abort()  # the server does not read: it would not see a close frame


async def test_a_token_is_renewed_behind_paced_sends(node: Running, clock: ManualClock) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    async with node.live(ann) as wire:
        session = node.session_of(ann)
        for n in range(2, 6):
            await wire.send(Send(n, dialog, n, b"x"))
        await wire.send(Authenticate(9, node.token(ann)))
        await until(lambda: len(session._mailbox.commands) == 3)
        pass_time(node, clock, 2)
        assert Authenticated in [type(reply) for reply in await replies(wire, 5)]


async def test_a_device_that_reconnects_goes_on_with_its_bucket(node: Running, clock: ManualClock) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    async with node.live(ann) as wire:
        for n in (2, 3):
            assert isinstance(await wire.ask(Send(n, dialog, n, b"x")), Acked)
    async with node.live(ann) as wire:
        session = node.session_of(ann)
        await wire.send(Send(4, dialog, 4, b"x"))
        await until(lambda: bool(session._mailbox.commands))
        pass_time(node, clock, 1)
        assert [reply.id for reply in await replies(wire, 1)] == [4]


async def test_the_devices_of_a_person_share_a_rate(node: Running, clock: ManualClock) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    second = Person(ann.principal)
    await node.world.another_sign_in(second)
    async with node.live(ann) as one, node.connected() as other:
        await other.ask(Authenticate(1, node.token(second)))
        sessions = [each for each in node.node.wheel if each.held_claims]
        for n in (2, 3):
            assert isinstance(await one.ask(Send(n, dialog, n, b"x")), Acked)
        (session,) = (each for each in sessions if each.device == second.device)
        session.received(MSGPACK.encode(Send(1, dialog, 1, b"x")), text=False)  # refused: it has not synced; but paid
        session.received(MSGPACK.encode(Send(2, dialog, 2, b"x")), text=False)
        assert len(session._mailbox.commands) == 1
        pass_time(node, clock, 1)
        assert not session._mailbox.commands


async def test_reading_pauses_when_too_many_bytes_wait(node: Running) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    async with node.live(ann) as wire:
        session = node.session_of(ann)
        for n in range(2, 12):
            await wire.send(Send(n, dialog, n, bytes(50_000)))
        await until(lambda: not session._mailbox.reading)
        assert len(session._mailbox.commands) == 3
        assert session._mailbox.size < 131_072 + 50_100
        wire.socket.transport.abort()


async def test_a_stranger_is_refused_five_times_and_then_closed(node: Running) -> None:
    async with node.connected() as wire:
        for _ in range(8):
            await wire.send(RUBBISH)
        answers = [await wire.receive() for _ in range(5)]
        assert all(isinstance(answer, Failed) for answer in answers)
        with pytest.raises(ConnectionClosed) as closed:
            await wire.receive()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4400


async def test_a_stranger_may_say_ten_things(node: Running) -> None:
    async with node.connected() as wire:
        for _ in range(12):
            await wire.send(Heartbeat(0))
        for _ in range(10):
            assert isinstance(await wire.receive(), HeartbeatReply)
        assert await wire.close_code() == 4400


async def test_little_of_a_stranger_waits(node: Running) -> None:
    checked = asyncio.Event()

    async def verify(*_args: object) -> None:
        await checked.wait()
        raise RequestRefusedError(ErrorCode.TOKEN_INVALID)

    node.tokens.verify = verify  # type: ignore[method-assign, assignment]
    async with node.connected() as wire:
        await wire.send(Authenticate(1, node.token(await node.world.person())))
        for _ in range(20):
            await wire.send(Heartbeat(0))
        (session,) = node.node.wheel
        await until(lambda: not session._mailbox.reading)
        assert len(session._mailbox.commands) == 4
        checked.set()
        assert await wire.close_code() == 4102


async def test_bad_messages_of_a_device_are_counted_over_its_connections(node: Running, clock: ManualClock) -> None:
    ann = await node.world.person()
    for _ in range(2):
        async with node.live(ann) as wire:
            for _ in range(10):
                await wire.send(RUBBISH)
            assert all([isinstance(await wire.receive(), Failed) for _ in range(10)])
    async with node.live(ann) as wire:
        await wire.send(RUBBISH)
        assert await wire.close_code() == 4400
    clock.advance(10.0)
    async with node.live(ann) as wire:
        await wire.send(RUBBISH)
        assert isinstance(await wire.receive(), Failed)
        assert (await wire.ask(History(3, new_id()))).code == "dialog_not_found"


async def test_a_session_learns_its_rates(database_url: str) -> None:
    settings = SessionSettings(sends_per_s=7.0, sends_burst=8, commands_per_s=9.0, commands_burst=10)
    async with running(database_url, configured(sessions=settings)) as node, node.connected() as wire:
        said = await wire.ask(Authenticate(1, node.token(await node.world.person())))
        assert (said.sends_per_s, said.sends_burst, said.commands_per_s, said.commands_burst) == (7.0, 8, 9.0, 10)


async def test_few_connections_of_a_person_authenticate_and_do_not_sync(node: Running) -> None:
    ann = await node.world.person()
    async with AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(node.connected()) for _ in range(AWAITED_MAX + 1)]
        for wire in wires:
            assert isinstance(await wire.ask(Authenticate(1, node.token(ann))), Authenticated)
        assert sum(each.held_claims is not None and not each._closing for each in node.node.wheel) == AWAITED_MAX
        assert await wires[0].close_code() == 4004


async def test_a_session_that_is_closed_holds_no_commands(node: Running) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    async with node.live(ann) as wire:
        session = node.session_of(ann)
        for n in range(2, 12):
            await wire.send(Send(n, dialog, n, bytes(50_000)))
        await until(lambda: not session._mailbox.reading)
        session.close(CloseCode.RATE_LIMITED)
        assert session._mailbox.size == 0
        wire.socket.transport.abort()
