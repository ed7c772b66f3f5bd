"""`tchat trace` says of each member and device whether a message was delivered there, and if not, why."""

from __future__ import annotations

import asyncio
import json
import socket

import httpx
import msgspec
import pytest

from protocol import bodies
from protocol.commands import Edit, HighWaterMark, Receipt
from protocol.dialog_types import DialogType
from protocol.ids import new_id, to_text
from protocol.kinds import Kind
from server.config.settings import Config, ServerSettings, StorageSettings
from server.node import cli
from server.node.trace import add_from_archive, as_text, trace
from server.node.trace_reasons import Asked, Trace, TracedMember, explain
from server.startup_error import StartupError
from storage.identity_rows import EndReason
from storage.local.archive import LocalArchive
from storage.postgres import traces
from storage.postgres.traces import read_trace
from storage.rows import PrincipalStatus, TimelineRow
from tests.support.harness import Running
from tests.support.world import Person, encode

pytestmark = pytest.mark.anyio


def config_of(running: Running, url: str) -> Config:
    return Config(server=ServerSettings(admin_port=running.node.admin_port), storage=StorageSettings(postgres_url=url))


async def traced(running: Running, url: str, dialog: bytes, seq: int, member: str | None = None) -> Trace:
    """As the command does it, beside the node."""
    return await asyncio.to_thread(trace, config_of(running, url), to_text(dialog), seq, member)


def of(found: Trace, person: Person) -> TracedMember:
    (member,) = (each for each in found.members if each.principal == to_text(person.principal))
    return member


async def test_it_says_of_each_member_why(server: Running, database_url: str) -> None:
    world = server.world
    ann, bo, cy, dan, eve, fay = await world.people(6)
    group = await world.create(DialogType.GROUP, ann, bo, cy, eve, fay)
    await world.act(bodies.MemberRemoved, group, ann, cy)
    seq = (await world.say(group, ann, "the message in question")).seq
    await world.act(bodies.MembersAdded, group, ann, dan)
    await world.pool.execute(
        "UPDATE principals SET status = $2 WHERE principal_id = $1", fay.principal, PrincipalStatus.SUSPENDED
    )
    async with server.live(bo) as wire, server.live(eve):
        await wire.ask(Receipt(3, HighWaterMark(group, seq, 0)))
        await server.node.receipts.flush()
        found = await traced(server, database_url, group, seq)
    assert of(found, ann).why == "visible: they wrote it"
    assert of(found, bo).why == "delivered, not reported as read"
    assert (of(found, bo).delivered, of(found, bo).read) == (True, False)
    assert of(found, cy).why.startswith("not visible to them: their membership ended (member_removed by ")
    assert to_text(ann.principal) in of(found, cy).why
    assert of(found, dan).why == f"not visible to them: they joined later, with number {seq + 1}"
    assert of(found, eve).why == "visible, not reported as delivered: their receipts are at 0"
    assert of(found, fay).why == "visible, but they are suspended and cannot connect"
    assert [device.why for device in of(found, eve).devices] == [
        f"connected to {socket.gethostname()}, incarnation {server.node.incarnation}: gets events as they come"
    ]
    assert [device.device for device in of(found, eve).devices] == [to_text(eve.device)]
    assert of(found, ann).devices[0].why.startswith("not connected: it gets what it lacks")
    assert of(found, cy).devices == []


async def test_it_says_what_was_written_and_done_to_it_and_shows_no_content(server: Running, database_url: str) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    seq = (await server.world.say(dialog, ann, "opensesame")).seq
    async with server.live(ann) as wire:
        await wire.ask(Edit(3, dialog, 9, seq, b"opensesame, edited"))
    await server.node.horizon.advance()
    found = await traced(server, database_url, dialog, seq)
    text = as_text(found)
    assert "posted, kind message, " in text
    assert f"incarnation {server.node.incarnation} (node " in text
    assert "positions handed out from now on are past it" in text
    assert f"later: edited by {to_text(ann.principal)}" in text
    assert "opensesame" not in text
    assert b"opensesame" not in msgspec.json.encode(found)


async def test_a_device_that_cannot_get_it_says_why(server: Running, database_url: str) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    seq = (await server.world.say(dialog, ann)).seq
    await server.world.pool.execute(
        "UPDATE sign_ins SET revoked_at_ms = 1, revoked_why = $2 WHERE sign_in_id = $1",
        bo.sign_in,
        EndReason.CROWDED_OUT,
    )
    await server.world.pool.execute("UPDATE sign_ins SET expires_at_ms = 1 WHERE sign_in_id = $1", ann.sign_in)
    found = await traced(server, database_url, dialog, seq)
    assert of(found, bo).devices[0].why == "its sign-in ended 1970-01-01 00:00:00 UTC (crowded_out): it gets nothing"
    assert of(found, ann).devices[0].why == "its sign-in expired 1970-01-01 00:00:00 UTC: it gets nothing"


async def test_a_slow_device_is_behind(server: Running, database_url: str) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    seq = (await server.world.say(dialog, ann)).seq
    async with server.live(bo):
        outbox = server.session_of(bo).outbox
        outbox.live, outbox.size = False, 5000
        outbox.stuck_since = server.node.clock.monotonic() - 7
        found = await traced(server, database_url, dialog, seq, to_text(bo.principal))
    assert [member.principal for member in found.members] == [to_text(bo.principal)]
    why = of(found, bo).devices[0].why
    assert ", but behind: it reads what it missed from the timeline, 5000 bytes wait, its socket has taken" in why


async def test_what_is_not_there_is_said(server: Running, database_url: str) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    assert (await traced(server, database_url, new_id(), 1)).facts == ["There is no such dialog."]
    assert "not written: no event has this number yet" in (await traced(server, database_url, dialog, 99)).facts
    await server.world.pool.execute("DELETE FROM journal")
    assert "not in the journal" in (await traced(server, database_url, dialog, 1)).facts[1]
    with pytest.raises(StartupError, match="DIALOG takes an id"):
        await asyncio.to_thread(trace, Config(), "no id", 1, None)


async def test_without_a_node_connections_are_not_known(server: Running, database_url: str) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    seq = (await server.world.say(dialog, ann)).seq
    alone = msgspec.structs.replace(config_of(server, database_url), server=ServerSettings(admin_port=1))
    found = await asyncio.to_thread(trace, alone, to_text(dialog), seq, None)
    assert any("No node answers on 127.0.0.1:1 " in note for note in found.notes)
    assert of(found, bo).devices[0].why.startswith("whether it is connected is not known")


async def test_a_device_on_another_node_is_found_when_that_is_asked(server: Running, database_url: str) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    seq = (await server.world.say(dialog, ann)).seq
    port = f"127.0.0.1:{server.node.admin_port}"
    async with server.live(bo):
        config = msgspec.structs.replace(config_of(server, database_url), server=ServerSettings(admin_port=1))
        found = await asyncio.to_thread(trace, config, to_text(dialog), seq, None, [port])
        assert of(found, bo).devices[0].node == socket.gethostname()
        await server.world.journal.begin_incarnation("another")
        found = await traced(server, database_url, dialog, seq)
    assert any(note.startswith("Node another, incarnation ") for note in found.notes)
    assert of(found, ann).devices[0].why.startswith("whether it is connected is not known")


async def test_an_event_that_only_the_archive_has_is_found_there(server: Running, database_url: str) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    seq = (await server.world.say(dialog, ann, "opensesame")).seq
    archive = LocalArchive()
    posted = encode(bodies.Posted(Kind.MESSAGE, bodies.Header(), b"opensesame"))
    edited = encode(bodies.Edited(seq, b"opensesame"))
    for number, tag, body, target in ((seq, 1, posted, None), (seq + 1, 2, edited, seq)):
        event = bodies.TimelineEventRaw(dialog, number, ann.principal, ann.device, 9, 1000, 1, msgspec.Raw(body))
        await archive.write([TimelineRow(event, tag, target)])
    await server.world.pool.execute("DELETE FROM journal")
    found = await add_from_archive(
        archive, await read_trace(database_url, to_text(dialog), seq, None), to_text(dialog), seq
    )
    text = as_text(explain(to_text(dialog), seq, found, Asked([], [])))
    assert "posted, kind message, " in text
    assert "only the archive has it" in text
    assert "later: edited by " in text
    assert "opensesame" not in text
    assert found.members


async def test_members_are_bounded(server: Running, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    people = await server.world.people(3)
    group = await server.world.create(DialogType.GROUP, *people)
    monkeypatch.setattr(traces, "MEMBERS_MAX", 2)
    found = await traced(server, database_url, group, 1)
    assert len(found.members) == 2
    assert any(note.endswith("name one with --member.") for note in found.notes)


async def test_the_command_prints_a_page_or_json(
    server: Running, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ann, bo = await server.world.people(2)
    dialog = to_text(await server.world.create(DialogType.DIRECT, ann, bo))
    monkeypatch.setenv("TCHAT__STORAGE__POSTGRES_URL", database_url)
    monkeypatch.setenv("TCHAT__SERVER__ADMIN_PORT", str(server.node.admin_port))
    assert await asyncio.to_thread(cli.main, ["trace", dialog, "1"]) == 0
    assert f"dialog {dialog}, number 1" in capsys.readouterr().out
    assert await asyncio.to_thread(cli.main, ["trace", dialog, "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dialog"] == dialog


async def test_the_private_port_refuses_what_is_no_id(server: Running) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.node.admin_port}") as client:
        assert (await client.get("/connected?principal=x")).status_code == 400
        assert (await client.get("/connected")).json()["connected"] == []
        assert (await client.get("/")).status_code == 404
