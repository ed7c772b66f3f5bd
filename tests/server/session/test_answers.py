"""How a session answers: the refused number that later ones await, and who wants no answer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from protocol.bodies import Header
from protocol.commands import (
    Create,
    Heartbeat,
    HighWaterMark,
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
from protocol.replies import Acked, Done, Failed
from tests.support.harness import Running, configured, running

pytestmark = pytest.mark.anyio


@pytest.fixture
async def node(database_url: str) -> AsyncIterator[Running]:
    async with running(database_url, configured()) as it:
        yield it


async def test_a_stale_refusal_names_the_keys_seq_to_send_with(node: Running) -> None:
    ann, bo, cy = await node.world.people(3)
    async with node.live(ann) as wire:
        created = await wire.ask(Create(3, 1, DialogType.GROUP, [bo.principal, cy.principal], "g", Mode.SEALED))
        removal = await wire.ask(Remove(4, created.dialog, 2, bo.principal))
        refused = await wire.ask(Send(5, created.dialog, 3, b"x"))
        assert (refused.code, refused.keys_seq) == ("stale", removal.seq)
        later = await wire.ask(Send(6, created.dialog, 4, b"y", Header(keys_seq=removal.seq)))
        assert (later.code, later.awaited_n) == ("earlier_first", 3)
        assert (await wire.ask(Send(5, created.dialog, 3, b"x", Header(keys_seq=removal.seq)))).seq == 3


async def test_a_refused_number_is_given_up_on_the_same_connection(node: Running) -> None:
    ann, bo, cy = await node.world.people(3)
    async with node.live(ann) as wire:
        dialog = (await wire.ask(Create(3, 1, DialogType.GROUP, [bo.principal, cy.principal], "g", Mode.SEALED))).dialog
        removal = await wire.ask(Remove(4, dialog, 2, bo.principal))
        newest = Header(keys_seq=removal.seq)
        assert (await wire.ask(Send(5, dialog, 3, b"old keys"))).code == "stale"
        assert (await wire.ask(Send(6, dialog, 4, b"x", newest))).code == "earlier_first"
        assert await wire.ask(Skip(7, dialog, 4)) == Done(7)  # not the one that is awaited
        assert (await wire.ask(Send(8, dialog, 4, b"x", newest))).code == "earlier_first"
        assert await wire.ask(Skip(9, dialog, 3)) == Done(9)
        assert (await wire.ask(Send(10, dialog, 4, b"x", newest))).seq == 3
        assert (await wire.ask(Send(11, dialog, 3, b"old keys", newest))).code == "number_passed"


async def test_what_stands_behind_a_stale_number_in_the_pipeline_awaits_it(node: Running) -> None:
    ann, bo, cy = await node.world.people(3)
    async with node.live(ann) as wire:
        dialog = (await wire.ask(Create(3, 1, DialogType.GROUP, [bo.principal, cy.principal], "g", Mode.SEALED))).dialog
        await wire.ask(Remove(4, dialog, 2, bo.principal))
        for n in range(3, 8):
            await wire.send(Send(n + 10, dialog, n, b"x"))
        refused = [await wire.until(Failed) for _ in range(5)]
        assert [(each.code, each.awaited_n) for each in refused if each.code != "stale"] == [("earlier_first", 3)] * 4


async def test_a_future_keys_seq_does_not_disarm_stale(node: Running) -> None:
    ann, bo, cy = await node.world.people(3)
    async with node.live(ann) as wire:
        dialog = (await wire.ask(Create(3, 1, DialogType.GROUP, [bo.principal, cy.principal], "g", Mode.SEALED))).dialog
        refused = await wire.ask(Send(4, dialog, 2, b"x", Header(keys_seq=1_000)))
        assert refused.code == "invalid_argument"
        assert "header.keys_seq" in refused.message
        assert isinstance(await wire.ask(Send(5, dialog, 3, b"x")), Acked)


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
