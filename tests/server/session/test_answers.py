"""How a session answers: the refused number that later ones await, and who wants no answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from protocol.commands import (
    Create,
    Edit,
    Heartbeat,
    HighWaterMark,
    React,
    Receipt,
    Remove,
    Send,
    Skip,
    Sync,
    Typing,
)
from protocol.dialog_types import DialogType, Mode
from protocol.events import HeartbeatReply
from protocol.ids import new_id
from protocol.kinds import Kind
from protocol.replies import Acked, Done, Failed
from tests.support.harness import Running, Wire, configured, running
from tests.support.sealing import one_device_of, sealed, upload
from tests.support.world import UNCHECKED, Person

pytestmark = pytest.mark.anyio

KEYS = b"1" * 32
"""The session of what these people seal; only the writer's device has keys, so a share of it has no slices."""


@pytest.fixture
async def node(database_url: str) -> AsyncIterator[Running]:
    async with running(database_url, configured()) as it:
        yield it


async def found(wire: Wire, *others: Person) -> bytes:
    """Create a sealed group; its id."""
    members = [each.principal for each in others]
    created = await wire.ask(Create(3, 1, DialogType.GROUP, members, "g", Mode.SEALED, signature=UNCHECKED))
    assert isinstance(created, Acked), created
    return created.dialog


async def test_a_stale_refusal_names_the_keys_seq_to_send_with(node: Running) -> None:
    ann, bo, cy = [await one_device_of(node.world), *await node.world.people(2)]
    async with node.live(ann) as wire:
        dialog = await found(wire, bo, cy)
        removal = await wire.ask(Remove(4, dialog, 2, bo.principal))
        refused = await wire.ask(Send(5, dialog, 3, b"x", sealed(KEYS)))
        assert (refused.code, refused.keys_seq) == ("stale", removal.seq)
        newest = sealed(KEYS, await upload(wire, dialog, KEYS, keys_seq=removal.seq), removal.seq)
        later = await wire.ask(Send(6, dialog, 4, b"y", newest))
        assert (later.code, later.awaited_n) == ("earlier_first", 3)
        assert (await wire.ask(Send(5, dialog, 3, b"x", newest))).seq == 3


async def test_a_refused_number_is_given_up_on_the_same_connection(node: Running) -> None:
    ann, bo, cy = [await one_device_of(node.world), *await node.world.people(2)]
    async with node.live(ann) as wire:
        dialog = await found(wire, bo, cy)
        removal = await wire.ask(Remove(4, dialog, 2, bo.principal))
        newest = sealed(KEYS, await upload(wire, dialog, KEYS, keys_seq=removal.seq), removal.seq)
        assert (await wire.ask(Send(5, dialog, 3, b"old keys", sealed(KEYS)))).code == "stale"
        assert (await wire.ask(Send(6, dialog, 4, b"x", newest))).code == "earlier_first"
        assert await wire.ask(Skip(7, dialog, 4)) == Done(7)  # not the one that is awaited
        assert (await wire.ask(Send(8, dialog, 4, b"x", newest))).code == "earlier_first"
        assert await wire.ask(Skip(9, dialog, 3)) == Done(9)
        assert (await wire.ask(Send(10, dialog, 4, b"x", newest))).seq == 3
        assert (await wire.ask(Send(11, dialog, 3, b"old keys", newest))).code == "number_passed"


async def test_what_stands_behind_a_stale_number_in_the_pipeline_awaits_it(node: Running) -> None:
    ann, bo, cy = await node.world.people(3)
    async with node.live(ann) as wire:
        dialog = await found(wire, bo, cy)
        await wire.ask(Remove(4, dialog, 2, bo.principal))
        for n in range(3, 8):
            await wire.send(Send(n + 10, dialog, n, b"x", sealed(KEYS)))
        refused = [await wire.until(Failed) for _ in range(5)]
        assert [(each.code, each.awaited_n) for each in refused if each.code != "stale"] == [("earlier_first", 3)] * 4


async def test_a_future_keys_seq_is_stale(node: Running) -> None:
    """After a restore of the database that is what a client has: the server names the one that there is."""
    ann, bo, cy = [await one_device_of(node.world), *await node.world.people(2)]
    async with node.live(ann) as wire:
        dialog = await found(wire, bo, cy)
        share = await upload(wire, dialog, KEYS)
        refused = await wire.ask(Send(4, dialog, 2, b"x", sealed(KEYS, share, 1_000)))
        assert (refused.code, refused.keys_seq) == ("stale", 0)
        assert isinstance(await wire.ask(Send(5, dialog, 2, b"x", sealed(KEYS, share))), Acked)


async def test_a_sealed_dialog_takes_nothing_in_the_clear_but_a_reaction_that_is_withdrawn(node: Running) -> None:
    ann, bo = [await one_device_of(node.world), *await node.world.people(1)]
    async with node.live(ann) as wire:
        dialog = (await wire.ask(Create(3, 1, DialogType.DIRECT, [bo.principal]))).dialog
        envelope = sealed(KEYS, await upload(wire, dialog, KEYS))
        said = await wire.ask(Send(4, dialog, 2, b"sealed", envelope))
        typed = msgspec.structs.replace(envelope, content_type="text/plain")
        for number, refused in enumerate(
            (
                Send(0, dialog, 3, b"x"),
                Send(0, dialog, 3, b"x", typed),
                Send(0, dialog, 3, b"x", kind=Kind.SIGNAL),
                Edit(0, dialog, 3, said.seq, b"x"),
                Edit(0, dialog, 3, said.seq, b"x", typed),
                React(0, dialog, 3, said.seq, b"+"),
            ),
            5,
        ):
            reply = await wire.ask(msgspec.structs.replace(refused, id=number))
            assert reply.code == "invalid_argument", refused
            assert "sealed" in reply.message
        assert isinstance(await wire.ask(React(20, dialog, 3, said.seq, b"")), Acked)


async def test_without_an_id_nothing_is_done_or_failed(node: Running) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    unknown = new_id()
    async with node.live(ann) as wire:
        for command in (Typing(0, dialog), Typing(0, unknown), Receipt(0, HighWaterMark(unknown, 1, 1)), Sync(0)):
            await wire.send(command)
        await wire.send(Skip(0, dialog, 5))
        await wire.send(Heartbeat(0))
        assert isinstance(await wire.receive(), HeartbeatReply)
        await wire.send(b"\x92\x03\xff")  # a heartbeat with the id -1
        refused = await wire.receive()
        assert isinstance(refused, Failed)
        assert (refused.id, refused.code) == (0, "malformed")


async def test_a_heartbeat_with_an_id_gets_a_reply_of_that_id(node: Running) -> None:
    async with node.connected() as wire:
        await wire.send(Heartbeat(7))
        assert isinstance(await wire.receive(), HeartbeatReply)
        assert await wire.receive() == Done(7)


async def test_a_receipt_with_an_id_says_that_one_is_not_in_the_dialog(node: Running) -> None:
    ann, bo, eve = await node.world.people(3)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    async with node.live(ann) as member, node.live(eve) as stranger:
        assert await member.ask(Receipt(3, HighWaterMark(dialog, 1, 1))) == Done(3)
        for unknown in (dialog, new_id()):
            assert (await stranger.ask(Receipt(3, HighWaterMark(unknown, 1, 1)))).code == "dialog_not_found"
