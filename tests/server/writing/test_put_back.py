"""What has left the journal is put back for who writes about it, and nobody waits for the archive meanwhile."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from protocol.command_rules import Command
from protocol.commands import Delete, HighWaterMark, React, Receipt, Send
from protocol.dialog_types import DialogType
from protocol.errors import ErrorCode
from protocol.events import ReceiptChanged
from protocol.kinds import DAY_MS
from protocol.replies import Acked, Failed
from server.writing import put_back as module
from server.writing.put_back import PAUSE_S, PutBack
from storage.archive import Archive
from storage.cql.archive import CqlArchive
from storage.local.archive import LocalArchive
from storage.rows import TimelineRow
from storage.unavailable import IncarnationEndedError, StorageUnavailableError
from tests.support.archiving import journal_rows
from tests.support.clock import ManualClock
from tests.support.harness import Running, Wire, running
from tests.support.turns import until
from tests.support.world import Person, World, edit, message, reaction

pytestmark = pytest.mark.anyio

TRIM = "SELECT rows FROM trim_journal(9007199254740991, 0, 100)"


class FakeTrimming:
    """Takes what is put back, or fails as often as it has faults."""

    def __init__(self, *faults: Exception) -> None:
        self.faults = list(faults)
        self.seqs: list[int] = []

    async def put_back(self, rows: Sequence[TimelineRow], now_ms: int, *, incarnation: int) -> None:
        del now_ms
        assert incarnation == 7
        if self.faults:
            raise self.faults.pop(0)
        self.seqs += [row.event.seq for row in rows]


async def filled(world: World, count: int) -> tuple[bytes, LocalArchive]:
    """A dialog with so many messages, and an archive that has them."""
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.flush(*(message(dialog, ann) for _ in range(count)))
    archive = LocalArchive()
    await archive.write(await journal_rows(world))
    return dialog, archive


def make(trimming: Any, archive: Any, pauses: list[float], clock: ManualClock | None = None) -> PutBack:
    """One whose pauses are listed instead."""

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    return PutBack(trimming, archive, clock or ManualClock(), incarnation=7, sleep=sleep)


async def test_each_event_that_is_wanted_is_put_back_once(world: World) -> None:
    dialog, archive = await filled(world, 150)
    trimming = FakeTrimming()
    put_back = make(trimming, archive, [])
    for seq in (*range(2, 152), 2):
        put_back.want(dialog, seq)
    work = asyncio.ensure_future(put_back.run())
    await until(lambda: put_back.rows == 150)
    put_back.want(dialog, 2)
    await until(lambda: put_back.rows == 151)
    assert trimming.seqs == [*range(2, 152), 2]
    work.cancel()


async def test_dialogs_take_turns(world: World) -> None:
    long, archive = await filled(world, 250)
    short, other = await filled(world, 1)
    await archive.write(await other.read_rows(short, [2]))
    trimming = FakeTrimming()
    put_back = make(trimming, archive, [])
    for dialog, seqs in ((long, range(3, 252)), (short, [2])):
        for seq in seqs:
            put_back.want(dialog, seq)
    work = asyncio.ensure_future(put_back.run())
    await until(lambda: put_back.rows == 250)
    assert trimming.seqs == [*range(3, 103), 2, *range(103, 252)]
    work.cancel()


async def test_nothing_hangs_on_an_erased_message_that_comes_back(world: World) -> None:
    """What the archive has not erased with it yet stays there."""
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.flush(message(dialog, ann), reaction(dialog, bo, 2))
    archive, trimming = LocalArchive(), FakeTrimming()
    await archive.write(await journal_rows(world))
    await archive.erase([(dialog, 2)])
    put_back = make(trimming, archive, [])
    put_back.want(dialog, 2)
    work = asyncio.ensure_future(put_back.run())
    await until(lambda: put_back.rows == 1)
    assert trimming.seqs == [2]
    work.cancel()


async def test_what_hangs_on_a_message_comes_with_it(world: World) -> None:
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.flush(message(dialog, ann), message(dialog, ann))
    await world.flush(reaction(dialog, bo, 2), edit(dialog, ann, 2), reaction(dialog, bo, 3))
    archive, trimming = LocalArchive(), FakeTrimming()
    await archive.write(await journal_rows(world), epoch=1)
    put_back = make(trimming, archive, [])
    put_back.want(dialog, 2)
    work = asyncio.ensure_future(put_back.run())
    await until(lambda: put_back.rows == 1)
    assert sorted(trimming.seqs) == [2, 4, 5]
    work.cancel()


async def test_what_fails_is_dropped_after_a_pause_and_may_be_wanted_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    dialog, archive = await filled(world, 2)
    trimming, pauses = FakeTrimming(StorageUnavailableError("gone"), ValueError("a fault")), list[float]()
    put_back = make(trimming, archive, pauses)
    work = asyncio.ensure_future(put_back.run())
    for times in (1, 2):
        put_back.want(dialog, 2)
        await until(lambda times=times: len(pauses) == times)  # type: ignore[misc]
    put_back.want(dialog, 2)
    await until(lambda: trimming.seqs == [2])
    assert pauses == [PAUSE_S] * 2
    assert [bool(record.exc_info) for record in caplog.records if record.levelno == logging.WARNING] == [False, True]
    work.cancel()


async def test_a_node_that_was_replaced_ends(world: World) -> None:
    dialog, archive = await filled(world, 1)
    put_back = make(FakeTrimming(IncarnationEndedError()), archive, [])
    put_back.want(dialog, 2)
    with pytest.raises(IncarnationEndedError):
        await put_back.run()


async def test_what_the_archive_lacks_is_logged_and_dropped(world: World, caplog: pytest.LogCaptureFixture) -> None:
    dialog, archive = await filled(world, 1)
    put_back = make(FakeTrimming(), archive, [])
    work = asyncio.ensure_future(put_back.run())
    put_back.want(dialog, 99)
    await until(lambda: "the archive lacks 1 events" in caplog.text)
    work.cancel()


async def test_what_is_wanted_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WANTED_MAX", 2)
    dialog, archive = await filled(world, 3)
    trimming = FakeTrimming()
    put_back = make(trimming, archive, [])
    for seq in (2, 3, 4):
        put_back.want(dialog, seq)
    work = asyncio.ensure_future(put_back.run())
    await until(lambda: put_back.rows == 2)
    put_back.want(dialog, 4)
    await until(lambda: put_back.rows == 3)
    assert trimming.seqs == [2, 3, 4]
    work.cancel()


@pytest.fixture(params=[LocalArchive, pytest.param(CqlArchive, marks=pytest.mark.cassandra)])
async def archive(request: pytest.FixtureRequest) -> AsyncIterator[Archive]:
    if request.param is LocalArchive:
        yield LocalArchive()
        return
    archive = CqlArchive(request.getfixturevalue("cql_server"), read_timeout_s=20.0, write_timeout_s=20.0)
    yield archive
    await archive.close()


async def old_dialog(server: Running) -> tuple[Person, bytes]:
    """A dialog whose two messages, 2 and 3, have left the journal."""
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    await server.world.flush(message(dialog, ann), message(dialog, ann))
    await let_leave(server, 2)
    return ann, dialog


async def let_leave(server: Running, count: int) -> None:
    """Trim until so many rows have left."""
    left = 0
    async with asyncio.timeout(20):
        while left < count:  # the mover comes first
            left += await server.world.pool.fetchval(TRIM)


async def ask_until_settled(wire: Wire, command: Command) -> tuple[int, Acked | Failed]:
    """Send it until the answer is final; how often it was refused for now, and the answer."""
    refused = 0
    async with asyncio.timeout(20):
        while isinstance(reply := await wire.ask(command), Failed) and reply.code == ErrorCode.UNAVAILABLE:
            refused += 1
    return refused, reply


async def ask_until_acked(wire: Wire, command: Command) -> tuple[int, Acked]:
    """The same for what is stored in the end."""
    refused, reply = await ask_until_settled(wire, command)
    assert isinstance(reply, Acked)
    return refused, reply


async def test_a_client_reacts_to_and_deletes_what_has_left_by_trying_again(
    database_url: str, archive: Archive
) -> None:
    async with running(database_url, archive=archive) as server:
        ann, dialog = await old_dialog(server)
        async with server.live(ann) as wire:
            for command in (React(3, dialog, ann.n(), 2, b"+"), Delete(4, dialog, ann.n(), 3)):
                refused, _ = await ask_until_acked(wire, command)
                assert refused
                assert await ask_until_acked(wire, command) == (0, _)


async def test_what_is_repeated_after_it_has_left_is_stored_once(database_url: str, archive: Archive) -> None:
    """It gets its first ack; a number that was never stored is refused for good, both when the archive was searched."""
    async with running(database_url, archive=archive) as server:
        ann, dialog = await old_dialog(server)
        async with server.live(ann) as wire:
            sent = [Send(seq, dialog, 10 * seq, b"to be repeated") for seq in (4, 5)]
            acks = [await wire.ask(each) for each in sent]
            await let_leave(server, 2)
            refused, ack = await ask_until_acked(wire, sent[0])
            assert refused
            assert ack == acks[0]
            refused, reply = await ask_until_settled(wire, Send(6, dialog, 45, b"never stored"))
            assert refused
            assert isinstance(reply, Failed)
            assert reply.code == ErrorCode.NUMBER_PASSED
            assert await server.world.pool.fetchval("SELECT max(seq) FROM heads") == 5


async def test_what_a_search_found_is_believed_for_less_time_than_a_row_stays(world: World) -> None:
    dialog, archive = await filled(world, 1)
    (row,) = await archive.read_rows(dialog, [2])
    number = (dialog, row.event.device, row.event.n)
    trimming, clock = FakeTrimming(), ManualClock()
    put_back = make(trimming, archive, [], clock)
    assert not put_back.was_back(*number, at=clock.monotonic())
    work = asyncio.ensure_future(put_back.run())
    await until(lambda: put_back.was_back(*number, at=clock.monotonic()))
    assert not put_back.was_back(*number, at=clock.monotonic() - 1)  # it was judged before
    clock.advance(DAY_MS / 1000)
    assert not put_back.was_back(*number, at=clock.monotonic())
    await until(lambda: put_back.was_back(*number, at=clock.monotonic()))
    assert trimming.seqs == [2, 2]
    work.cancel()


async def test_a_search_that_fails_says_nothing(world: World) -> None:
    dialog, archive = await filled(world, 1)
    (row,) = await archive.read_rows(dialog, [2])
    number = (dialog, row.event.device, row.event.n)
    pauses, clock = list[float](), ManualClock()
    put_back = make(FakeTrimming(StorageUnavailableError("away")), archive, pauses, clock)
    assert not put_back.was_back(*number, at=clock.monotonic())
    work = asyncio.ensure_future(put_back.run())
    await until(lambda: len(pauses) == 1)
    assert not put_back.was_back(*number, at=clock.monotonic())
    await until(lambda: put_back.rows == 1)
    assert put_back.was_back(*number, at=clock.monotonic())
    work.cancel()


async def test_a_receipt_of_what_has_left_is_raised_when_it_is_back(database_url: str) -> None:
    async with running(database_url, archive=LocalArchive()) as server:
        ann, dialog = await old_dialog(server)
        async with server.live(ann) as wire:
            await wire.send(Receipt(0, HighWaterMark(dialog, 2, 2)))
            async with asyncio.timeout(20):
                changed = await wire.until(ReceiptChanged)
            assert (changed.read, changed.read_messages) == (2, 1)
