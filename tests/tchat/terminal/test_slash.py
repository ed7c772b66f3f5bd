"""What was typed after a slash, and what is meant by it."""

from __future__ import annotations

import pytest

from tchat.terminal.slash import USAGE, Slash, SlashError, help_text, parse


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("/new +6591234567", Slash("new", phones=("+6591234567",))),
        (
            "/group The whole team +6591234567 +6598765432",
            Slash("group", 0, ("+6591234567", "+6598765432"), "The whole team"),
        ),
        ("/add +6591234567 +6598765432", Slash("add", phones=("+6591234567", "+6598765432"))),
        ("/remove +6591234567", Slash("remove", phones=("+6591234567",))),
        ("/leave", Slash("leave")),
        ("/edit 12 what I  meant", Slash("edit", 12, text="what I  meant")),
        ("/edit 12 call +6591234567", Slash("edit", 12, text="call +6591234567")),
        ("/delete 12", Slash("delete", 12)),
        ("/react 12 👍", Slash("react", 12, text="👍")),
        ("/react 12", Slash("react", 12)),
        ("/block", Slash("block")),
        ("/mute 60", Slash("mute", text="60")),
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
        "/mute",
        "/mute soon",
    ],
)
def test_what_is_not_understood_says_how_it_goes(typed: str) -> None:
    with pytest.raises(SlashError) as raised:
        parse(typed)
    assert "/" in str(raised.value)


def test_help_lists_every_command() -> None:
    assert all(usage in help_text() for usage, _ in USAGE.values())
