"""The commands that begin with a slash, each declared once: how it is typed, what it means, what it sends.

To add one, add an entry to `_COMMANDS`. Its usage is also its grammar: SEQ is the number of a message, +NUMBER a
telephone number or the id of a bot (followed by ... if there may be more), any other word stands for text, in brackets
if it may be left out, and MINUTES for a number.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from protocol.bodies import Header, Invited
from protocol.commands import (
    Accept,
    Add,
    Block,
    Create,
    Decline,
    Delete,
    Edit,
    Invite,
    Leave,
    Mute,
    Numbered,
    Pin,
    React,
    Remove,
    Unblock,
    Unpin,
)
from protocol.dialog_types import DialogType
from tchat.fold.view import DialogView

YES = "/yes"
_CONTENT_TYPE = "text/plain"
_USAGE_WIDTH = 20
"""Longer ones push their meaning to the right: a line fits a terminal of 80 columns."""
_MUTE_MINUTES_MAX = 10**6
_NO_TEXT = frozenset({"SEQ", "+NUMBER", "..."})
_PHONE = re.compile(r"\+\d{6,15}$|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")
_ALSO = (
    "SEQ is the number to the left of a message; +NUMBER a telephone number, or",
    "the id of a bot.",
    "What is in brackets may be left out.",
    "Ctrl+N and Ctrl+P change the dialog, PageUp and PageDown scroll.",
    "Escape closes a page like this one, and notices. Ctrl+Q quits.",
    "Ticks: ✓ stored, ✓✓ received, ✓✓ read.",
)


class SlashError(Exception):
    """The line is not a command, or lacks something; the text says how to type it."""


@dataclass(frozen=True, slots=True)
class Slash:
    """A command as typed: its name, the number of a message, telephone numbers, and text, as far as it takes them."""

    name: str
    seq: int = 0
    phones: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a command depends on beside its text: the open dialog, the people of the telephone numbers, the time."""

    open_dialog: DialogView | None
    people: list[bytes]
    now_ms: int

    @property
    def dialog(self) -> DialogView:
        """The open dialog; SlashError if there is none."""
        if self.open_dialog is None:
            raise SlashError("open a dialog first, or begin one: /new +NUMBER")
        return self.open_dialog

    @property
    def key(self) -> bytes:
        """The id of the open dialog."""
        return self.dialog.dialog

    @property
    def other(self) -> bytes:
        """The other person of an open direct dialog."""
        others = [who for who in self.dialog.members or () if who != self.dialog.me]
        if self.dialog.type is not DialogType.DIRECT or not others:
            raise SlashError("that is for a dialog of two: /new +NUMBER opens one")
        return others[0]

    def find_invited_into(self, seq: int) -> bytes:
        """The dialog of the invitation with this number."""
        event = self.dialog.notices.get(seq)
        if event is None or not isinstance(event.body, Invited):
            raise SlashError("that is no invitation; open Notes to self, and type the number to the left of one")
        return event.body.dialog


@dataclass(frozen=True, slots=True)
class _Declared:
    """One command. `make` is None if the screen does it; `done` is shown where the screen would not change."""

    usage: str
    meaning: str
    make: Callable[[Slash, Situation], Numbered] | None = None
    done: str | None = None


def text_header(dialog: DialogView) -> Header:
    """The header of a text in this dialog."""
    return Header(content_type=_CONTENT_TYPE, keys_seq=dialog.keys_seq)


def _until_ms(minutes: int, now_ms: int) -> int:
    return now_ms + min(minutes, _MUTE_MINUTES_MAX) * 60_000 if minutes else 0


_COMMANDS = (
    _Declared(
        "/new +NUMBER",
        "talk to one person",
        lambda _, at: Create(0, 0, DialogType.DIRECT, at.people),
    ),
    _Declared(
        "/group NAME +NUMBER +NUMBER ...",
        "begin a group: you and two or more",
        lambda typed, at: Create(0, 0, DialogType.GROUP, at.people, typed.text),
    ),
    _Declared(
        "/add +NUMBER ...",
        "bring people into this group",
        lambda _, at: Add(0, at.key, 0, at.people),
    ),
    _Declared(
        "/invite +NUMBER",
        "ask somebody whom you cannot add",
        lambda _, at: Invite(0, at.key, 0, at.people[0]),
        done="Invited: they can accept it in their Notes to self.",
    ),
    _Declared(
        "/accept SEQ",
        "join what you are invited into",
        lambda typed, at: Accept(0, at.find_invited_into(typed.seq), 0),
    ),
    _Declared(
        "/decline SEQ",
        "decline an invitation",
        lambda typed, at: Decline(0, at.find_invited_into(typed.seq), 0),
    ),
    _Declared(
        "/remove +NUMBER",
        "take somebody out of this group",
        lambda _, at: Remove(0, at.key, 0, at.people[0]),
    ),
    _Declared(
        "/leave",
        "leave this group",
        lambda _, at: Leave(0, at.key, 0),
    ),
    _Declared(
        "/edit SEQ TEXT",
        "replace your message of that number",
        lambda typed, at: Edit(0, at.key, 0, typed.seq, typed.text.encode(), text_header(at.dialog)),
    ),
    _Declared(
        "/delete SEQ",
        "delete a message for everybody",
        lambda typed, at: Delete(0, at.key, 0, typed.seq),
    ),
    _Declared(
        "/react SEQ [TEXT]",
        "react; without text, take it back",
        lambda typed, at: React(0, at.key, 0, typed.seq, typed.text.encode()),
    ),
    _Declared(
        "/pin SEQ",
        "pin a message for everybody",
        lambda typed, at: Pin(0, at.key, 0, typed.seq),
    ),
    _Declared(
        "/unpin",
        "pin no message any more",
        lambda _, at: Unpin(0, at.key, 0),
    ),
    _Declared(
        "/block",
        "let them write to you no more",
        lambda _, at: Block(0, at.other, 0),
        done="Blocked: they can no longer write to you here. /unblock ends that.",
    ),
    _Declared(
        "/unblock",
        "let them write again",
        lambda _, at: Unblock(0, at.other, 0),
        done="Unblocked: they can write to you again.",
    ),
    _Declared(
        "/mute MINUTES",
        "mark this dialog as muted; 0 ends it",
        lambda typed, at: Mute(0, at.key, 0, _until_ms(int(typed.text), at.now_ms)),
    ),
    _Declared("/verify", "compare symbols: with the person here, or your devices"),
    _Declared("/qr", "the same with a code that is shown here"),
    _Declared("/scan CODE", "the text of the code that the other one shows"),
    _Declared("/safety", "the number that both see, to read to each other"),
    _Declared("/same", "both show the same, or the code was right"),
    _Declared("/differ", "they do not, or you do not want to compare"),
    _Declared("/devices", "your devices, and those of the people here"),
    _Declared("/remove-device NAME", "sign a device of yours out; it gets no more keys"),
    _Declared("/recover KEY", "on a new device: identity and messages come back"),
    _Declared("/recovery-key", "show the key for when all devices are lost"),
    _Declared("/agree", "send though a notice says not to: ask them first"),
    _Declared("/new-identity", "begin anew without device or key; others see it"),
    _Declared("/report SEQ [REASON]", "show the moderators a message, and who wrote it"),
    _Declared(YES, "do what was asked; any other line takes it back"),
    _Declared("/help", "show this"),
    _Declared("/quit", "leave the chat"),
)
_BY_NAME = {command.usage.split()[0].removeprefix("/"): command for command in _COMMANDS}


def parse(line: str) -> Slash:
    """The command in a line that begins with a slash; raises SlashError with its usage."""
    name, _, rest = line.removeprefix("/").partition(" ")
    if name not in _BY_NAME:
        raise SlashError(f"there is no /{name}; /help lists what there is")
    _, *takes = _BY_NAME[name].usage.split()
    seq, rest = _seq(rest.strip()) if "SEQ" in takes else (0, rest.strip())
    phones, text = _phones(rest) if "+NUMBER" in takes else ((), rest)
    if seq is None or not _fits(takes, phones, text):
        raise SlashError(f"{_BY_NAME[name].usage}: {_BY_NAME[name].meaning}")
    return Slash(name, seq, phones, text)


def command_of(typed: Slash, situation: Situation) -> Numbered | None:
    """What a command sends, None if it sends nothing; SlashError if it does not fit the open dialog."""
    make = _BY_NAME[typed.name].make
    return None if make is None else make(typed, situation)


def done_text(typed: Slash) -> str | None:
    """What to show once the command is done, if the screen does not show it anyway."""
    return _BY_NAME[typed.name].done


def help_text() -> str:
    """All commands, one per line, and the keys."""
    return "\n".join([*(f"{each.usage:<{_USAGE_WIDTH}}  {each.meaning}" for each in _COMMANDS), "", *_ALSO])


def _seq(rest: str) -> tuple[int | None, str]:
    first, _, rest = rest.partition(" ")
    return (int(first) or None if first.isdecimal() else None), rest.strip()


def _phones(rest: str) -> tuple[tuple[str, ...], str]:
    words = rest.split()
    phones = tuple(word for word in words if _PHONE.match(word))
    return phones, " ".join(word for word in words if word not in phones)


def _fits(takes: list[str], phones: tuple[str, ...], text: str) -> bool:
    """Whether there are as many telephone numbers, and text or none, as the usage says."""
    wanted = takes.count("+NUMBER")
    if len(phones) < wanted or (len(phones) > wanted and "..." not in takes):
        return False
    texts = [word for word in takes if word not in _NO_TEXT]
    if not texts:
        return not text
    if texts == ["MINUTES"]:
        return text.isdecimal()
    return bool(text) or texts[0].startswith("[")
