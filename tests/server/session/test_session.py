"""The session actor over a real socket: time, order, bounds, and the end of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from protocol.bodies import TimelineEvent
from protocol.close_codes import CloseCode
from protocol.codec import JSON, MSGPACK
from protocol.commands import (
    Authenticate,
    Block,
    Heartbeat,
    History,
    PresenceSubscribe,
    Roster,
    Send,
    Sync,
    Typing,
)
from protocol.dialog_types import DialogType
from protocol.events import CaughtUp, Draining, HeartbeatReply, PresenceChanged
from protocol.ids import new_id
from protocol.replies import Acked, Authenticated, Done, Failed, RosterPage
from server.config.settings import PipelineSettings, SessionSettings
from server.writing.submission import UNAVAILABLE
from storage.unavailable import StorageUnavailableError
from tests.support.clock import ManualClock
from tests.support.harness import Running, configured, running
from tests.support.turns import until
from tests.support.world import Person

pytestmark = pytest.mark.anyio


@pytest.fixture
async def node(database_url: str, clock: ManualClock) -> AsyncIterator[Running]:
    """A node whose clock the test moves."""
    async with running(database_url, configured(), clock) as it:
        yield it


def pass_time(it: Running, clock: ManualClock, seconds: float) -> None:
    """Move the clock second by second, as the node's wheel sees it."""
    for _ in range(int(seconds)):
        clock.advance(1.0)
        it.node.tick()


async def test_who_does_not_authenticate_in_time_is_closed(node: Running, clock: ManualClock) -> None:
    async with node.connected() as wire:
        await wire.send(Heartbeat(0))
        await wire.until(HeartbeatReply)
        pass_time(node, clock, 11)
        assert await wire.close_code() == 4101


async def test_a_silent_connection_hears_heartbeats_then_is_closed(node: Running, clock: ManualClock) -> None:
    ann = await node.world.person()
    async with node.live(ann) as wire:
        pass_time(node, clock, 26)
        assert isinstance(await wire.receive(), HeartbeatReply)
        pass_time(node, clock, 60)
        assert await wire.close_code() == 4002


async def test_a_token_that_ends_closes_unless_a_newer_one_came(database_url: str, clock: ManualClock) -> None:
    settings = SessionSettings(idle_timeout_s=1e5)
    async with running(database_url, configured(sessions=settings), clock) as node:
        ann, bo = await node.world.people(2)
        async with node.live(ann) as prolonged, node.live(bo) as expiring:
            pass_time(node, clock, 3000)
            assert isinstance(await prolonged.ask(Authenticate(3, node.token(ann))), Authenticated)
            pass_time(node, clock, 700)
            assert await expiring.close_code() == 4100
            assert (await prolonged.ask(Typing(4, new_id()))).code == "dialog_not_found"


async def test_a_session_never_changes_its_person(node: Running) -> None:
    ann, bo = await node.world.people(2)
    async with node.live(ann) as wire:
        assert (await wire.ask(Authenticate(3, node.token(bo)))).code == "wrong_person"


async def test_a_session_never_changes_its_sign_in(node: Running) -> None:
    ann = await node.world.person()
    ended = Person(ann.principal, ann.device)
    async with node.live(ann) as wire:
        assert (await wire.ask(Authenticate(3, node.token(ended)))).code == "wrong_person"
        node.node.registry.end_sign_in(ann.principal, ann.sign_in, CloseCode.SIGNED_OUT, "")
        assert await wire.close_code() == 4200


async def test_who_was_signed_out_takes_no_device_over(node: Running) -> None:
    ann = await node.world.person()
    ended = Person(ann.principal, ann.device)
    async with node.live(ann) as wire, node.connected() as intruder:
        await intruder.ask(Authenticate(1, node.token(ended)))
        assert (await intruder.ask(Sync(2))).code == "signed_out"
        assert isinstance(await wire.ask(Typing(9, new_id())), Failed)
        assert len(node.node.registry.subscribers_of(ann.principal)) == 1


@pytest.mark.parametrize("token", ["", "rubbish", "a.b.c"])
async def test_an_invalid_token_closes(node: Running, token: str) -> None:
    async with node.connected() as wire:
        assert (await wire.ask(Authenticate(1, token))).code == "token_invalid"
        assert await wire.close_code() == 4102


async def test_text_under_msgpack_and_binary_under_json_close(node: Running) -> None:
    for codec in (MSGPACK, JSON):
        async with node.connected(codec) as wire:
            await wire.socket.send(b"{}", text=not codec.text)
            assert await wire.close_code() == 1003


async def test_sends_are_pipelined_and_acked_in_order(node: Running) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    async with node.live(ann) as wire:
        for n in range(2, 52):
            await wire.send(Send(n, dialog, n, b"x"))
        acks = [await wire.until(Acked) for _ in range(50)]
        assert [(ack.n, ack.seq) for ack in acks] == [(n, n) for n in range(2, 52)]


async def test_reading_pauses_while_too_many_sends_are_in_flight(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SessionSettings(in_flight_sends_max=4, mailbox_max=8)
    async with running(database_url, configured(sessions=settings)) as node:
        ann, bo = await node.world.people(2)
        dialog = await node.world.create(DialogType.DIRECT, ann, bo)
        gate, entered = asyncio.Event(), asyncio.Event()
        flush = node.node.journal.flush

        async def held(*args: Any, **more: Any) -> Any:
            entered.set()
            await gate.wait()
            return await flush(*args, **more)

        monkeypatch.setattr(node.node.journal, "flush", held)
        async with node.live(ann) as wire:
            for n in range(2, 42):
                await wire.send(Send(n, dialog, n, b"x"))
            await entered.wait()
            session = node.session_of(ann)
            await until(lambda: not session._mailbox.reading)
            assert session._in_flight == 4
            gate.set()
            assert [(await wire.until(Acked)).seq for _ in range(40)] == list(range(2, 42))


async def test_a_lagging_reader_is_caught_up_and_nobody_else_notices(database_url: str) -> None:
    settings = SessionSettings(outbox_bytes_max=10_000, held_frames_max=5, sends_per_s=1e6, sends_burst=10**6)
    async with running(database_url, configured(sessions=settings)) as node:
        ann, bo, cy = await node.world.people(3)
        dialog = await node.world.create(DialogType.GROUP, ann, bo, cy)
        payload = bytes(40_000)
        async with node.live(ann) as writer, node.live(bo) as slow, node.live(cy) as quick:
            slow.socket.transport.pause_reading()
            for n in range(2, 202):
                acked = await writer.ask(Send(n, dialog, n, payload))
                assert isinstance(acked, Acked)
                assert (await quick.until(TimelineEvent)).seq == n
            behind = [session for session in node.node.registry if not session.outbox.live]
            assert [session.principal for session in behind] == [bo.principal]
            assert behind[0].outbox.size <= 200_000
            slow.socket.transport.resume_reading()
            seen = [(await slow.until(TimelineEvent)).seq for _ in range(200)]
            assert seen == list(range(2, 202))


async def test_only_a_reader_that_stays_stuck_is_closed(database_url: str, clock: ManualClock) -> None:
    settings = SessionSettings(outbox_bytes_max=10_000, heartbeat_s=5.0, sends_per_s=1e6, sends_burst=10**6)
    async with running(database_url, configured(sessions=settings), clock) as node:
        ann, bo = await node.world.people(2)
        dialog = await node.world.create(DialogType.DIRECT, ann, bo)
        async with node.live(ann) as writer, node.live(bo) as stuck:
            stuck.socket.transport.pause_reading()
            session = node.session_of(bo)
            n = 2
            while session.outbox.live or not session.connection.paused:
                assert isinstance(await writer.ask(Send(n, dialog, n, bytes(50_000))), Acked)
                n += 1
            for _ in range(3):
                pass_time(node, clock, 12)
                await writer.send(Heartbeat(0))
                await writer.until(HeartbeatReply)
            assert node.node.registry.subscribers_of(bo.principal) == []
            assert len(node.node.registry.subscribers_of(ann.principal)) == 1
            stuck.socket.transport.abort()


async def test_a_fault_in_a_handler_closes_that_session_alone(
    node: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    async with node.live(ann) as broken, node.live(bo) as fine:

        async def fault(*_args: Any, **_more: Any) -> Any:
            raise ZeroDivisionError

        with monkeypatch.context() as patched:
            patched.setattr(node.node.timelines, "read_members", fault)
            await broken.send(Roster(3, dialog))
            assert await broken.close_code() == 1011
        assert (await fine.ask(Roster(3, dialog))).members
        assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_a_fault_at_once_in_a_write_stops_no_other_write(
    node: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ann, bo = await node.world.people(2)
    async with node.live(ann) as broken, node.live(bo) as fine:
        session = node.session_of(ann)

        def fault(*_args: Any) -> float:
            raise ZeroDivisionError

        monkeypatch.setattr(type(session), "_admit", lambda it, _: fault() if it is session else True)
        session._mailbox = session._mailbox.put(Heartbeat(0), 2)  # as if it had waited for the socket
        session.outbox.awaited = True
        session.send_heartbeat()
        node.session_of(bo).send_heartbeat()
        assert await broken.close_code() == 1011
        assert isinstance(await fine.receive(), HeartbeatReply)
        assert [record.levelname for record in caplog.records] == ["ERROR"]


async def test_many_refused_at_once_are_answered_one_after_the_other(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full lane refuses while the command is handled: nothing may grow with how many wait."""
    settings = SessionSettings(sends_burst=1000)
    async with running(database_url, configured(sessions=settings)) as node:
        ann = await node.world.person()
        gate, dialog_of = asyncio.Event(), node.node.timelines.read_dialogs

        async def held(*args: Any) -> Any:
            await gate.wait()
            return await dialog_of(*args)

        monkeypatch.setattr(node.node.timelines, "read_dialogs", held)
        monkeypatch.setattr(node.node.pipeline, "submit", lambda _entry, done: done(UNAVAILABLE))
        async with node.live(ann) as wire:
            await wire.send(History(3, new_id()))
            for n in range(4, 204):
                await wire.send(Send(n, new_id(), n, b"x"))
            session = node.session_of(ann)
            await until(lambda: len(session._mailbox.commands) == 200)
            gate.set()
            assert [(await wire.until(Failed)).id for _ in range(201)] == list(range(3, 204))


@pytest.mark.filterwarnings("error")
async def test_a_connection_that_ends_with_its_command_leaves_nothing_undone(node: Running) -> None:
    ann = await node.world.person()
    async with node.live(ann):
        session = node.session_of(ann)
        session.received(MSGPACK.encode(History(3, new_id())), text=False)
        working = session._working
        assert working is not None
        session.closed()  # before the work had its first turn
        await asyncio.wait({working})
        assert working.cancelled()
        del working
        gc.collect()  # where a coroutine that was never awaited would complain
    assert not node.node.registry.subscribers_of(ann.principal)


async def test_a_fault_at_a_tick_ends_that_session_alone(node: Running, clock: ManualClock) -> None:
    ann, bo = await node.world.people(2)
    async with node.live(ann) as broken, node.live(bo) as fine:
        node.session_of(ann)._claims = object()  # type: ignore[assignment]
        pass_time(node, clock, 26)
        assert isinstance(await fine.receive(), HeartbeatReply)
        assert await broken.close_code() == 1006


async def test_a_stranger_opens_no_room_by_typing(node: Running) -> None:
    ann, bo, eve = await node.world.people(3)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    async with node.live(eve) as stranger, node.live(ann) as member:
        assert (await stranger.ask(Typing(3, dialog))).code == "dialog_not_found"
        assert len(node.node.rooms) == 0
        assert isinstance(await member.ask(Typing(3, dialog)), Done)
        assert (await stranger.ask(Typing(4, dialog))).code == "dialog_not_found"


async def test_who_blocks_is_followed_no_longer(node: Running) -> None:
    ann, bo = await node.world.people(2)
    for person in (ann, bo):
        await node.world.create(DialogType.SELF, person)
    await node.world.create(DialogType.DIRECT, ann, bo)
    async with node.live(ann) as a, node.live(bo) as b:
        for wire, other in ((a, bo), (b, ann)):
            await wire.ask(PresenceSubscribe(3, [other.principal]))
            assert (await wire.until(PresenceChanged)).online
        await b.ask(Block(4, ann.principal, 2))
        assert not any(node.node.presence._followed.values())
        node.node.presence.announce(bo.principal, online=False)
        assert isinstance(await a.ask(Typing(5, new_id())), Failed)
        assert not node.node.presence._followers


async def test_a_read_without_a_database_is_unavailable_and_can_be_repeated(
    node: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = await node.world.person()
    snapshot = node.node.timelines.take_snapshot

    async def gone(*_args: Any, **_more: Any) -> Any:
        raise StorageUnavailableError("injected")

    async with node.connected() as wire:
        await wire.ask(Authenticate(1, node.token(ann)))
        monkeypatch.setattr(node.node.timelines, "take_snapshot", gone)
        refused = await wire.ask(Sync(2))
        assert (refused.code, refused.retry_after_s) == ("unavailable", 1.0)
        monkeypatch.setattr(node.node.timelines, "take_snapshot", snapshot)
        await wire.send(Sync(3))
        assert isinstance(await wire.until(CaughtUp), CaughtUp)


async def test_a_change_that_cannot_be_stored_holds_back_what_follows(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = PipelineSettings(retry_total_s=0.01, retry_first_s=0.01)
    async with running(database_url, configured(pipeline=settings)) as node:
        ann, bo = await node.world.people(2)
        await node.world.create(DialogType.SELF, ann)

        async def gone(*_args: Any, **_more: Any) -> Any:
            raise StorageUnavailableError("injected")

        async with node.live(ann) as wire:
            with monkeypatch.context() as patched:
                patched.setattr(node.node.journal, "change", gone)
                assert (await wire.ask(Block(3, bo.principal, 2))).code == "unavailable"
            later = await wire.ask(Block(4, bo.principal, 3))
            assert (later.code, later.awaited_n) == ("earlier_first", 2)
            assert (await wire.ask(Block(5, bo.principal, 2))).seq == 2


async def test_draining_finishes_what_is_under_way_and_sends_clients_elsewhere(database_url: str) -> None:
    async with contextlib.AsyncExitStack() as stack:
        node = await stack.enter_async_context(running(database_url, configured()))
        ann, bo = await node.world.people(2)
        dialog = await node.world.create(DialogType.DIRECT, ann, bo)
        wire = await stack.enter_async_context(node.live(ann))
        waiting = await stack.enter_async_context(node.connected())
        for n in range(2, 12):
            await wire.send(Send(n, dialog, n, b"x"))
        await until(lambda: bool(node.node.pipeline.backlog.rows or node.node.pipeline.flusher.rows))
        draining = asyncio.ensure_future(node.node.drain())
        messages: list[msgspec.Struct] = []
        while not any(isinstance(message, Draining) for message in messages):
            messages.append(await wire.receive())
        code = await wire.close_code()
        await draining
        assert (code, await waiting.close_code()) == (4000, 4000)
        head = await node.world.pool.fetchval("SELECT seq FROM heads WHERE dialog_id = $1", dialog)
        acks = [message.seq for message in messages if isinstance(message, Acked)]
        assert acks == list(range(2, 2 + len(acks)))
        assert head >= 1 + len(acks)


async def test_a_session_that_cannot_be_caught_up_is_asked_to_reconnect(
    node: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ann, bo = await node.world.people(2)
    await node.world.create(DialogType.DIRECT, ann, bo)

    async def gone(*_args: Any, **_more: Any) -> Any:
        raise StorageUnavailableError("injected")

    monkeypatch.setattr(node.node.timelines, "read_events", gone)
    async with node.connected() as wire:
        await wire.ask(Authenticate(1, node.token(ann)))
        await wire.ask(Sync(2))
        assert await wire.close_code() == 4003
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_an_ended_session_is_gone_without_the_garbage_collector(node: Running) -> None:
    gc.collect()
    gc.disable()
    try:
        async with node.live(await node.world.person()):
            (session,) = (weakref.ref(it) for it in node.node.wheel)
        await until(lambda: session() is None)
    finally:
        gc.enable()


async def test_who_fell_behind_gets_a_position_soon_after_catching_up(node: Running, clock: ManualClock) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    async with node.live(bo) as b:
        for n in range(10, 50):
            assert isinstance(await b.ask(Send(n, dialog, n, b"")), Acked)
    async with node.live(ann) as a:
        outbox = node.session_of(ann).outbox
        outbox.read_from(dialog, 1)
        await until(lambda: outbox.live)
        owed = [outbox.owes_position]
        pass_time(node, clock, 4)
        owed.append(outbox.owes_position)
        assert owed == [True, False]
        assert (await a.until(HeartbeatReply)).position


async def test_a_busy_client_gets_a_position_unasked_and_a_quiet_one_none(node: Running, clock: ManualClock) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)

    async def positions() -> list[str]:
        """Those that have come by now, and the one of a heartbeat that is asked for."""
        await a.send(Heartbeat(0))
        await a.send(Roster(99, dialog))
        seen = [await a.receive()]
        while not isinstance(seen[-1], RosterPage):
            seen.append(await a.receive())
        return [message.position for message in seen if isinstance(message, HeartbeatReply)]

    async with node.live(ann) as a:
        assert len(await positions()) == 1
        for n in range(10, 50):
            assert isinstance(await a.ask(Send(n, dialog, n, b"")), Acked)  # each a frame of its own, and an ack
        await node.node.horizon.advance()
        pass_time(node, clock, 4)
        came, _ = await positions()
        pass_time(node, clock, 4)
        assert len(await positions()) == 1  # nothing was owed any more
    async with node.live(ann, position=came) as a:
        assert not [message for message in a.caught_up if isinstance(message, TimelineEvent)]
