"""What a client gets over its socket when a change is refused, and when the server closes the connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from protocol.bodies import Invitation, Settings, Signed
from protocol.command_rules import Command
from protocol.commands import (
    Accept,
    Add,
    Block,
    ChangeSettings,
    Create,
    Delete,
    Demote,
    Invite,
    Leave,
    Promote,
    Remove,
    Send,
)
from protocol.dialog_types import DialogType, Mode
from protocol.ids import new_id
from protocol.kinds import Kind
from protocol.replies import Acked, Failed
from server.config.settings import SessionSettings
from server.writing.submission import UNAVAILABLE, OnVerdict
from storage.rows import Entry
from storage.unavailable import WriteRefusedError
from tests.support.clock import ManualClock
from tests.support.harness import Running, Wire, configured, running
from tests.support.turns import until
from tests.support.world import UNCHECKED, message

pytestmark = pytest.mark.anyio


@pytest.fixture
async def node(database_url: str, clock: ManualClock) -> AsyncIterator[Running]:
    """A node whose clock the test moves."""
    async with running(database_url, configured(), clock) as it:
        yield it


async def code(wire: Wire, command: Command) -> str:
    """What the reply refuses with."""
    return str((await wire.ask(command)).code)


async def test_every_refused_change_says_why(node: Running) -> None:
    ann, bo, cy, di = await node.world.people(4)
    await node.world.create(DialogType.SELF, ann)
    direct = await node.world.create(DialogType.DIRECT, ann, bo)
    group = await node.world.create(DialogType.GROUP, ann, bo, cy)
    async with node.live(ann) as a, node.live(bo) as b:
        assert await code(a, Add(3, group, 10, [bo.principal])) == "already_member"
        assert await code(a, Add(4, group, 11, [new_id()])) == "principal_not_found"
        assert await code(a, Remove(5, group, 12, di.principal)) == "not_member"
        assert await code(a, Demote(6, group, 13, ann.principal)) == "last_admin"
        assert await code(a, Leave(7, direct, 14)) == "fixed_roster"
        assert await code(a, Create(8, 15, DialogType.GROUP, [bo.principal], "two are no group")) == "members_bound"
        assert await code(b, Promote(3, group, 10, bo.principal)) == "role_required"
        await a.ask(Block(9, bo.principal, 16))
        assert await code(b, Send(4, direct, 11, b"x")) == "blocked"


async def test_nobody_comes_to_read_a_sealed_group_without_a_signature(node: Running) -> None:
    ann, bo, cy, di, em = await node.world.people(5)
    await node.world.create(DialogType.SELF, di)
    group = await node.world.create(DialogType.GROUP, ann, bo, cy, mode=Mode.SEALED)
    async with node.live(ann) as a, node.live(di) as invited:
        for refused in (
            Create(3, 10, DialogType.GROUP, [bo.principal, cy.principal], "another"),
            Add(3, group, 10, [em.principal]),
            Promote(3, group, 10, bo.principal),
            Invite(3, group, 10, di.principal),
        ):
            assert await code(a, refused) == "signature_required"
        signed = Signed(0, bytes(32), UNCHECKED)
        assert isinstance(await a.ask(Invite(4, group, 11, di.principal, signed)), Acked)
        assert await code(invited, Accept(3, group, 10)) == "signature_required"
        invitation = Invitation(ann.principal, ann.device, 11, signed)
        joined = await invited.ask(Accept(4, group, 11, invitation))
        assert isinstance(joined, Acked)
        at_present = Signed(joined.seq, bytes(32), UNCHECKED)
        assert isinstance(await a.ask(Promote(5, group, 12, bo.principal, at_present)), Acked)
        assert isinstance(await a.ask(Create(6, 13, DialogType.DIRECT, [cy.principal])), Acked)


async def test_a_message_that_must_be_kept_is_not_deleted(node: Running) -> None:
    ann, bo, cy = await node.world.people(3)
    group = await node.world.create(DialogType.GROUP, ann, bo, cy)
    (payment,) = await node.world.flush(message(group, bo, kind=Kind.PAYMENT))
    async with node.live(ann) as admin, node.live(bo) as author:
        assert await code(admin, Delete(3, group, 10, payment.seq)) == "not_allowed"
        assert await code(author, Delete(3, group, 10, payment.seq)) == "not_allowed"


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("name", "Team\u202egnp.exe"),
        ("name", "Team\nAnn: yes"),
        ("description", "\x1b[2J"),
        ("avatar_url", "javascript:alert(1)"),
    ],
)
async def test_a_text_that_forges_what_others_see_is_refused(node: Running, field: str, text: str) -> None:
    ann, bo, cy = await node.world.people(3)
    group = await node.world.create(DialogType.GROUP, ann, bo, cy)
    texts: dict[str, Any] = {"name": "Team", field: text}
    async with node.live(ann) as wire:
        for refused in (
            await wire.ask(Create(3, 10, DialogType.GROUP, [bo.principal, cy.principal], **texts)),
            await wire.ask(ChangeSettings(4, group, 11, **texts)),
        ):
            assert refused.code == "invalid_argument"
            assert f"{field}:" in refused.message


async def test_a_code_that_the_rule_does_not_declare_fails_here(node: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    ann, bo, cy = await node.world.people(3)
    group = await node.world.create(DialogType.GROUP, ann, bo, cy)
    monkeypatch.setattr(Promote, "rule", replace(Promote.rule, codes=frozenset()))
    async with node.live(bo) as wire:
        with pytest.raises(AssertionError, match=r"the rule of Promote does not declare .*role_required"):
            await wire.ask(Promote(3, group, 10, bo.principal))


async def test_a_fault_of_the_server_is_reported_and_not_explained(
    node: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)

    async def fault(*_args: Any, **_more: Any) -> Any:
        raise WriteRefusedError("detail of ours")

    async with node.live(ann) as wire:
        monkeypatch.setattr(node.node.journal, "flush", fault)
        refused = await wire.ask(Send(3, dialog, 10, b"x"))
        assert refused.code == "internal"
        assert "detail of ours" not in refused.message
        assert "ERROR" in {record.levelname for record in caplog.records}


async def test_who_has_refused_numbers_in_too_many_dialogs_is_closed_with_4004(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(database_url, configured(sessions=SessionSettings(mailbox_max=4))) as node:
        ann = await node.world.person()
        monkeypatch.setattr(node.node.pipeline, "submit", lambda _entry, done: done(UNAVAILABLE))
        async with node.live(ann) as wire:
            for n in range(10, 20):
                await wire.send(Send(n, new_id(), n, b"x"))
            assert await wire.close_code() == 4004


async def test_who_is_closed_for_refusals_first_gets_the_acks_under_way(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise a client that sends all of it again on each connection would never be rid of any of it."""
    async with running(database_url, configured(sessions=SessionSettings(mailbox_max=2))) as node:
        ann, bo = await node.world.people(2)
        dialog = await node.world.create(DialogType.DIRECT, ann, bo)
        gate, flush, submit = asyncio.Event(), node.node.journal.flush, node.node.pipeline.submit

        async def held(*args: Any, **more: Any) -> Any:
            await gate.wait()
            return await flush(*args, **more)

        def refuse_others(entry: Entry, done: OnVerdict) -> None:
            if entry.dialog == dialog:
                submit(entry, done)
            else:
                done(UNAVAILABLE)

        monkeypatch.setattr(node.node.journal, "flush", held)
        monkeypatch.setattr(node.node.pipeline, "submit", refuse_others)
        async with node.live(ann) as wire:
            for n in range(2, 8):
                await wire.send(Send(n, dialog if n < 5 else new_id(), n, b"x"))
            assert [(await wire.until(Failed)).code for _ in range(3)] == ["unavailable"] * 3
            session = node.session_of(ann)
            session.connection.pause_writing()  # the socket is full
            gate.set()
            await until(lambda: not session._in_flight)
            session.connection.resume_writing()
            assert [(await wire.until(Acked)).seq for _ in range(3)] == [2, 3, 4]
            assert await wire.close_code() == 4004


async def test_who_missed_more_than_can_be_remembered_is_closed_with_4001(node: Running, clock: ManualClock) -> None:
    ann = await node.world.person()
    async with node.live(ann) as wire:
        (session,) = node.node.registry
        session.outbox._get_behind().overwhelmed = True
        for _ in range(30):
            clock.advance(1.0)
            node.node.tick()
        assert await wire.close_code() == 4001


async def test_what_anybody_may_join_or_read_from_the_start_is_not_sealed(node: Running) -> None:
    ann, bo, cy = await node.world.people(3)
    others, public = [bo.principal, cy.principal], Settings(is_public=True)
    async with node.live(ann) as a:
        sealed = Create(3, 1, DialogType.GROUP, others, "public", Mode.SEALED, settings=public)
        assert await code(a, sealed) == "invalid_argument"
        assert await code(a, Create(4, 2, DialogType.CHANNEL, others, "channel", Mode.SEALED)) == "invalid_argument"
        opened = Create(5, 3, DialogType.GROUP, others, "open", Mode.OPEN, settings=public)
        assert (await a.ask(opened)).dialog
