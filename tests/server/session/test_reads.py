"""Reads over a real socket: they hold up nobody else, end in time, and no page is larger than the protocol says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from protocol import bodies
from protocol.bodies import MembersAdded, TimelineEvent
from protocol.codec import JSON, MSGPACK, Codec
from protocol.commands import History, Roster, Send
from protocol.dialog_types import DialogType, Mode, Role
from protocol.events import DialogState
from protocol.ids import NIL, new_id
from protocol.kinds import Kind
from protocol.limits import (
    DESCRIPTION_CHARS_MAX,
    MEMBERS_PER_COMMAND_MAX,
    N_MAX,
    NAME_CHARS_MAX,
    PAYLOAD_BYTES_MAX,
    REACTION_BYTES_MAX,
    REPLY_BYTES_MAX,
    STATE_MEMBERS_MAX,
    URL_CHARS_MAX,
)
from protocol.replies import Acked, HistoryPage, Member, RosterPage
from server.config.message_sizes import largest_event
from server.config.settings import SessionSettings, StorageSettings
from tests.support.filling import add_members
from tests.support.harness import Running, configured, running
from tests.support.turns import until
from tests.support.world import edit, encode, message, reaction

pytestmark = pytest.mark.anyio

EITHER = pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=["msgpack", "json"])
WORST_NAME = "\x01" * NAME_CHARS_MAX
"""Each character takes six bytes in JSON."""


@contextlib.asynccontextmanager
async def locked_people(node: Running) -> AsyncIterator[None]:
    """While this is open, every read of a roster's names waits in the database."""
    async with node.world.pool.acquire() as connection, connection.transaction():
        await connection.execute("LOCK TABLE people IN ACCESS EXCLUSIVE MODE")
        yield


async def test_readers_whose_pages_wait_hold_up_no_send(database_url: str) -> None:
    async with running(database_url, configured()) as node, contextlib.AsyncExitStack() as stack:
        ann, bo, *readers = await node.world.people(22)
        dialog = await node.world.create(DialogType.DIRECT, ann, bo)
        group = await node.world.create(DialogType.GROUP, *readers)
        writer = await stack.enter_async_context(node.live(ann))
        other = await stack.enter_async_context(node.live(bo))
        wires = [await stack.enter_async_context(node.live(reader)) for reader in readers]
        async with locked_people(node):
            for wire in wires:
                await wire.send(Roster(3, group))
            await until(lambda: all(node.session_of(reader)._working for reader in readers))
            async with asyncio.timeout(20):
                assert isinstance(await writer.ask(Send(3, dialog, 2, b"x")), Acked)
                assert (await other.until(TimelineEvent)).seq == 2
        for wire in wires:
            assert len((await wire.until(RosterPage)).members) == 20


async def test_a_read_that_takes_too_long_is_unavailable(database_url: str) -> None:
    storage = StorageSettings(read_timeout_s=0.1)
    async with running(database_url, configured(storage=storage)) as node:
        people = await node.world.people(3)
        group = await node.world.create(DialogType.GROUP, *people)
        async with node.live(people[0]) as wire:
            async with locked_people(node):
                refused = await wire.ask(Roster(3, group))
            assert (refused.code, refused.retry_after_s) == ("unavailable", 1.0)
            assert isinstance(await wire.ask(Roster(4, group)), RosterPage)


@EITHER
async def test_a_page_of_history_fits_the_largest_reply(database_url: str, codec: Codec) -> None:
    async with running(database_url, configured()) as node:
        ann, bo = await node.world.people(2)
        dialog = await node.world.create(DialogType.DIRECT, ann, bo)
        await node.world.flush(*(message(dialog, ann, "x" * 3000) for _ in range(60)))
        await node.world.flush(*(reaction(dialog, bo, target, "x" * 1000) for target in range(2, 62)))
        async with node.live(bo, codec) as wire:
            for newest_first in (True, False):
                seen: list[int] = []
                first, last, pages = 1, 61, 0
                while first <= last:
                    page: HistoryPage = await wire.ask(History(3, dialog, first, last, 200, newest_first))
                    assert len(codec.encode(page)) <= REPLY_BYTES_MAX
                    assert {event.body.target for event in page.later} == {  # type: ignore[union-attr]
                        event.seq for event in page.events if event.seq > 1
                    }
                    seqs = [event.seq for event in page.events]
                    seen = [*seqs, *seen] if newest_first else [*seen, *seqs]
                    first, last = (first, seqs[0] - 1) if newest_first else (seqs[-1] + 1, last)
                    assert page.more is (first <= last)
                    pages += 1
                assert seen == list(range(1, 62))
                assert pages == {MSGPACK: 2, JSON: 2}[codec]


@EITHER
async def test_the_largest_message_is_read_with_its_newest_edit_and_what_else_fits(
    database_url: str, codec: Codec
) -> None:
    async with running(database_url, configured()) as node:
        ann, bo, cy = await node.world.people(3)
        dialog = await node.world.create(DialogType.GROUP, ann, bo, cy)
        largest = bodies.Posted(Kind.MESSAGE, bodies.Header(), bytes(PAYLOAD_BYTES_MAX))
        entry = message(dialog, ann)
        await node.world.flush(type(entry)(dialog, ann.principal, ann.device, entry.n, 1, encode(largest), counts=True))
        await node.world.flush(*(edit(dialog, ann, 2, "y" * PAYLOAD_BYTES_MAX) for _ in range(3)))
        await node.world.flush(*(reaction(dialog, bo, 2, "z" * REACTION_BYTES_MAX) for _ in range(200)))
        async with node.live(cy, codec) as wire:
            page: HistoryPage = await wire.ask(History(3, dialog, 2, 2))
            assert [event.seq for event in page.events] == [2]
            assert len(codec.encode(page)) <= REPLY_BYTES_MAX
            assert [event.seq for event in page.later if isinstance(event.body, bodies.Edited)] == [5]
            assert page.later[-1].seq == 205


@EITHER
async def test_a_page_of_members_fits_the_largest_reply(database_url: str, codec: Codec) -> None:
    async with running(database_url, configured()) as node:
        ann, bo, cy = await node.world.people(3)
        dialog = await node.world.create(DialogType.GROUP, ann, bo, cy)
        await add_members(node.world.pool, dialog, 600)
        await node.world.pool.execute(
            "INSERT INTO people (principal_id, tenant_id, display_name, locale, timezone, updated_at_ms)"
            " SELECT principal_id, 1, $1, '', '', 0 FROM principals",
            WORST_NAME,
        )
        async with node.live(ann, codec) as wire:
            seen: list[bytes] = []
            more, sizes = True, []
            while more:
                page: RosterPage = await wire.ask(Roster(3, dialog, seen[-1] if seen else NIL, 500))
                sizes.append(len(codec.encode(page)))
                seen += [member.principal for member in page.members]
                more = page.more
            assert len(seen) == len(set(seen)) == 603
            assert max(sizes) <= REPLY_BYTES_MAX
            assert (max(sizes) > REPLY_BYTES_MAX - 1000) is (codec is JSON)


@EITHER
def test_the_largest_event_and_the_largest_state_fit_the_largest_reply(codec: Codec) -> None:
    assert largest_event() <= REPLY_BYTES_MAX
    joined = MembersAdded([new_id() for _ in range(MEMBERS_PER_COMMAND_MAX)])
    assert len(codec.encode(TimelineEvent(NIL, 1, NIL, NIL, 1, 1, 1, joined))) <= REPLY_BYTES_MAX
    state = DialogState(
        dialog=NIL,
        type=DialogType.CHANNEL,
        mode=Mode.SEALED,
        name=WORST_NAME,
        description="\x01" * DESCRIPTION_CHARS_MAX,
        avatar_url="\x01" * URL_CHARS_MAX,
        settings=bodies.Settings(),
        role=Role.MEMBER,
        member=True,
        seq=N_MAX,
        messages=N_MAX,
        keys_seq=N_MAX,
        member_count=N_MAX,
        first_seq=N_MAX,
        visible=[(N_MAX, N_MAX)] * 64,
        delivered=N_MAX,
        read=N_MAX,
        read_messages=N_MAX,
        muted_until_ms=N_MAX,
        members=[Member(new_id(), Role.MEMBER, WORST_NAME, N_MAX, N_MAX)] * STATE_MEMBERS_MAX,
        pinned=N_MAX,
    )
    assert len(codec.encode(state)) <= REPLY_BYTES_MAX


async def test_commands_wait_while_too_much_waits_to_be_written(database_url: str) -> None:
    """Each page is bounded, but a client that asks and never reads could queue any number of them."""
    settings = SessionSettings(outbox_bytes_max=300_000, commands_burst=1000)
    async with running(database_url, configured(sessions=settings)) as node:
        ann, bo = await node.world.people(2)
        dialog = await node.world.create(DialogType.DIRECT, ann, bo)
        await node.world.flush(*(message(dialog, ann, "x" * 1000) for _ in range(100)))
        async with node.live(ann) as wire:
            session = node.session_of(ann)
            wire.socket.transport.pause_reading()
            for request in range(3, 103):
                await wire.send(History(request, dialog, limit=100))
            await until(lambda: session.outbox.size > settings.outbox_bytes_max and not session._working)
            assert len(session._mailbox.commands) > 50
            assert session.outbox.size <= settings.outbox_bytes_max + REPLY_BYTES_MAX
            wire.socket.transport.resume_reading()
            assert [(await wire.until(HistoryPage)).id for _ in range(100)] == list(range(3, 103))
