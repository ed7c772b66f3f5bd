"""The commands that begin with a slash: what was typed, as what is meant."""

from __future__ import annotations

import re
from dataclasses import dataclass


class SlashError(Exception):
    """What was typed is no command, or lacks something; the text says how it goes."""


@dataclass(frozen=True, slots=True)
class Slash:
    """A command: its name, the number of a message, telephone numbers, and text, as far as it takes them."""

    name: str
    seq: int = 0
    phones: tuple[str, ...] = ()
    text: str = ""


USAGE: dict[str, tuple[str, str]] = {
    "new": ("/new +NUMBER", "talk to one person"),
    "group": ("/group NAME +NUMBER +NUMBER ...", "begin a group: you and two or more"),
    "add": ("/add +NUMBER ...", "bring people into this group"),
    "remove": ("/remove +NUMBER", "take somebody out of this group"),
    "leave": ("/leave", "leave this group"),
    "edit": ("/edit SEQ TEXT", "replace your message of that number"),
    "delete": ("/delete SEQ", "delete a message for everybody"),
    "react": ("/react SEQ TEXT", "react; without text, take it back"),
    "block": ("/block", "let them no longer write to you"),
    "unblock": ("/unblock", "let them write again"),
    "mute": ("/mute MINUTES", "mark this dialog as muted; 0 ends it"),
    "help": ("/help", "show this"),
    "quit": ("/quit", "leave the chat"),
}

_ALSO = (
    "SEQ is the number to the left of a message; NUMBER a telephone number.",
    "Ctrl+N and Ctrl+P change the dialog, PageUp and PageDown scroll.",
    "Ctrl+Q quits. Ticks: ✓ stored, ✓✓ received, ✓✓ read.",
)
_PHONE = re.compile(r"\+\d{6,15}$")
_WITH_SEQ = frozenset({"edit", "delete", "react"})
_PHONES_MIN = {"new": 1, "group": 2, "add": 1, "remove": 1}
_ONE_PHONE = frozenset({"new", "remove"})
_TEXT_NEEDED = frozenset({"group", "edit", "mute"})
_TEXT_TAKEN = _TEXT_NEEDED | {"react"}


def parse(line: str) -> Slash:
    """The command in a line that begins with a slash; raises SlashError with its usage."""
    name, _, rest = line.removeprefix("/").partition(" ")
    if name not in USAGE:
        raise SlashError(f"there is no /{name}; /help lists what there is")
    seq, rest = _seq(name, rest.strip())
    words = rest.split()
    phones = tuple(word for word in words if name in _PHONES_MIN and _PHONE.match(word))
    text = " ".join(word for word in words if word not in phones) if phones else rest
    if len(phones) < _PHONES_MIN.get(name, 0) or (name in _ONE_PHONE and len(phones) > 1):
        raise _usage(name)
    if (name in _TEXT_NEEDED and not text) or (name not in _TEXT_TAKEN and text):
        raise _usage(name)
    if name == "mute" and not text.isdecimal():
        raise _usage(name)
    return Slash(name, seq, phones, text)


def help_text() -> str:
    """All commands, one per line, and the keys."""
    width = max(len(usage) for usage, _ in USAGE.values())
    lines = [f"{usage:<{width}}  {meaning}" for usage, meaning in USAGE.values()]
    return "\n".join([*lines, "", *_ALSO])


def _seq(name: str, rest: str) -> tuple[int, str]:
    if name not in _WITH_SEQ:
        return 0, rest
    first, _, rest = rest.partition(" ")
    if not first.isdecimal() or int(first) < 1:
        raise _usage(name)
    return int(first), rest.strip()


def _usage(name: str) -> SlashError:
    usage, meaning = USAGE[name]
    return SlashError(f"{usage}: {meaning}")
