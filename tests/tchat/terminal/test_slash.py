"""What was typed after a slash, and what is meant by it."""

from __future__ import annotations

import pytest

from protocol import commands as c
from protocol.bodies import Invited
from protocol.dialog_types import DialogType, Role
from protocol.replies import Member
from tchat.fold.view import DialogView, View
from tchat.terminal.slash import (
    Situation,
    Slash,
    SlashError,
    command_of,
    done_text,
    help_text,
    parse,
    text_header,
)
from tests.support.scripted import ANN, BOB, DIALOG, ME, SECOND, dialog_state, event_at


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("/new +6591234567", Slash("new", phones=("+6591234567",))),
        (
            "/group The whole team +6591234567 +6598765432",
            Slash("group", 0, ("+6591234567", "+6598765432"), "The whole team"),
        ),
        ("/new 019a2024-c154-7531-b5ac-e7237405c95a", Slash("new", phones=("019a2024-c154-7531-b5ac-e7237405c95a",))),
        ("/add +6591234567 +6598765432", Slash("add", phones=("+6591234567", "+6598765432"))),
        ("/remove +6591234567", Slash("remove", phones=("+6591234567",))),
        ("/leave", Slash("leave")),
        ("/edit 12 what I  meant", Slash("edit", 12, text="what I  meant")),
        ("/edit 12 call +6591234567", Slash("edit", 12, text="call +6591234567")),
        ("/delete 12", Slash("delete", 12)),
        ("/react 12 👍", Slash("react", 12, text="👍")),
        ("/react 12", Slash("react", 12)),
        ("/pin 12", Slash("pin", 12)),
        ("/unpin", Slash("unpin")),
        ("/block", Slash("block")),
        ("/mute 60", Slash("mute", text="60")),
        ("/report 12", Slash("report", 12)),
        ("/report 12 a threat", Slash("report", 12, text="a threat")),
        ("/remove-device 0a1b2c", Slash("remove-device", text="0a1b2c")),
        ("/scan AAAA BBBB", Slash("scan", text="AAAA BBBB")),
        ("/safety", Slash("safety")),
        ("/help", Slash("help")),
    ],
)
def test_a_command_is_understood(typed: str, meant: Slash) -> None:
    assert parse(typed) == meant


@pytest.mark.parametrize(
    "typed",
    [
        "/",
        "/fly",
        "/new",
        "/new 6591234567",
        "/new +1 +2",
        "/new +6591234567 +6598765432",
        "/new +6591234567 hello",
        "/group +6591234567 +6598765432",
        "/group Team +6591234567",
        "/edit",
        "/edit twelve x",
        "/edit 12",
        "/edit 0 x",
        "/delete",
        "/delete 12 please",
        "/leave now",
        "/report",
        "/remove-device",
        "/scan",
        "/yes please",
        "/mute",
        "/mute soon",
    ],
)
def test_what_is_not_understood_says_how_it_goes(typed: str) -> None:
    with pytest.raises(SlashError) as raised:
        parse(typed)
    assert "/" in str(raised.value)


@pytest.mark.parametrize(
    "usage",
    ["/new +NUMBER", "/group NAME +NUMBER +NUMBER ...", "/react SEQ [TEXT]", "/mute MINUTES", "/help", "/quit"],
)
def test_help_says_how_to_type_a_command(usage: str) -> None:
    assert f"{usage} " in help_text()


def test_help_fits_a_small_terminal() -> None:
    assert max(map(len, help_text().splitlines())) <= 76


def opened(kind: DialogType = DialogType.GROUP) -> DialogView:
    view = View(ME)
    pair = [Member(ME, Role.MEMBER), Member(ANN, Role.MEMBER)]
    view.apply(dialog_state(type=kind, keys_seq=7, members=pair, member_count=2))
    view.apply(event_at(3, Invited(SECOND, ANN, DialogType.GROUP, "Team")))
    return view.dialogs[DIALOG]


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        ("/new +6591234567", c.Create(0, 0, DialogType.DIRECT, [ANN, BOB])),
        ("/group Team +6591234567 +6598765432", c.Create(0, 0, DialogType.GROUP, [ANN, BOB], "Team")),
        ("/add +6591234567", c.Add(0, DIALOG, 0, [ANN, BOB])),
        ("/remove +6591234567", c.Remove(0, DIALOG, 0, ANN)),
        ("/invite +6591234567", c.Invite(0, DIALOG, 0, ANN)),
        ("/accept 3", c.Accept(0, SECOND, 0)),
        ("/decline 3", c.Decline(0, SECOND, 0)),
        ("/leave", c.Leave(0, DIALOG, 0)),
        ("/edit 2 better", c.Edit(0, DIALOG, 0, 2, b"better", text_header(opened()))),
        ("/delete 2", c.Delete(0, DIALOG, 0, 2)),
        ("/react 2 +1", c.React(0, DIALOG, 0, 2, b"+1")),
        ("/block", c.Block(0, ANN, 0)),
        ("/unblock", c.Unblock(0, ANN, 0)),
        ("/mute 2", c.Mute(0, DIALOG, 0, 1_000 + 120_000)),
        ("/mute 0", c.Mute(0, DIALOG, 0, 0)),
        ("/help", None),
        ("/quit", None),
    ],
)
def test_a_command_becomes_what_is_sent(typed: str, command: c.Numbered | None) -> None:
    situation = Situation(opened(DialogType.DIRECT), [ANN, BOB], now_ms=1_000)
    assert command_of(parse(typed), situation) == command


@pytest.mark.parametrize("typed", ["/leave", "/block", "/edit 2 better"])
def test_a_command_to_a_dialog_asks_for_an_open_one(typed: str) -> None:
    with pytest.raises(SlashError, match="open a dialog first"):
        command_of(parse(typed), Situation(None, [], 0))


def test_only_the_other_of_a_direct_dialog_is_blocked() -> None:
    with pytest.raises(SlashError, match="dialog of two"):
        command_of(parse("/block"), Situation(opened(), [], 0))


def test_only_an_invitation_is_accepted() -> None:
    with pytest.raises(SlashError, match="Notes to self"):
        command_of(parse("/accept 2"), Situation(opened(), [], 0))


def test_what_leaves_no_trace_on_the_screen_is_said() -> None:
    assert "/unblock" in (done_text(parse("/block")) or "")
    assert done_text(parse("/leave")) is None
