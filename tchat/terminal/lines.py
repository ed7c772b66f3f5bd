"""What the terminal shows of a view, as pieces of text with their styles: no terminal, no clock, no network in here."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from protocol.bodies import (
    AnyBody,
    Blocked,
    Demoted,
    DialogCreated,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    Muted,
    ProfileChanged,
    Promoted,
    SettingsChanged,
    TimelineEvent,
    Unblocked,
)
from protocol.commands import Delete, Edit, Numbered, React, Send
from protocol.dialog_types import DIALOG_TYPES, DialogType, Mode
from tchat.fold.view import DialogView, Message

Line = list[tuple[str, str]]
"""Pieces of one line, each with its style."""

Names = Callable[[bytes], str]
"""How to call a principal."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What lines depend on beside the dialog itself."""

    me: bytes
    names: Names
    now_ms: int


def clean(text: str) -> str:
    """Text of others, without what could command the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)


def text_of(payload: bytes) -> str:
    """A payload as text that is safe to show."""
    return clean(payload.decode("utf-8", "replace"))


def title(dialog: DialogView, seen: Seen) -> str:
    """What to call a dialog."""
    if dialog.type is DialogType.SELF:
        return "Notes to self"
    if dialog.type is DialogType.DIRECT:
        others = [who for who in dialog.members or () if who != seen.me]
        return seen.names(others[0]) if others else "somebody"
    return clean(dialog.name) or "unnamed"


def about(dialog: DialogView) -> str:
    """What a dialog is, in a few words."""
    members = f"{dialog.member_count} member{'' if dialog.member_count == 1 else 's'}"
    mode = "sealed (not encrypted yet)" if dialog.mode is Mode.SEALED else "open"
    return f"{dialog.type.name.lower()}, {members}, {mode}"


def dialog_line(dialog: DialogView, seen: Seen, *, typing: bool) -> Line:
    """A dialog in the list: title, who is typing, what is unread."""
    line = [(title(dialog, seen), "bold" if dialog.unread else "")]
    if not dialog.member:
        line.append(("  (left)", "dim"))
    if dialog.muted_until_ms > seen.now_ms:
        line.append(("  muted", "dim"))
    if typing:
        line.append(("  …", "green"))
    if dialog.unread:
        line.append((f"  {dialog.unread}", "bold cyan"))
    return line


def ticks(dialog: DialogView, message: Message, me: bytes) -> str:
    """How far one's own message has come: sent, received by all, read by all."""
    if not DIALOG_TYPES[dialog.type].receipts:
        return "✓"
    others = [who for who in dialog.members or () if who != me]
    marks = [dialog.marks.get(who) for who in others]
    if marks and all(mark and mark.read >= message.seq for mark in marks):
        return "✓✓ read"
    if marks and all(mark and mark.delivered >= message.seq for mark in marks):
        return "✓✓"
    return "✓"


def message_line(dialog: DialogView, message: Message, seen: Seen) -> Line:
    """One message with all that belongs to it."""
    line: Line = []
    line.append((f"{message.seq:>5} {_clock(message.at_ms)} ", "dim"))
    line.append((seen.names(message.author), "bold cyan" if message.author == seen.me else "bold green"))
    line.append(("  ", ""))
    expires = message.header.expires_at_ms
    if message.deleted:
        line.append(("deleted", "dim italic"))
        return line
    if expires is not None and expires <= seen.now_ms:
        line.append(("expired", "dim italic"))
        return line
    if message.header.reply_to is not None:
        line.append((f"↩ {message.header.reply_to} ", "dim"))
    line.append((text_of(message.payload), ""))
    if message.edit is not None:
        line.append((" (edited)", "dim"))
    if reactions := message.reactions:
        line.append(("  " + " ".join(_reactions(reactions.values())), "yellow"))
    if message.author == seen.me:
        line.append((f"  {ticks(dialog, message, seen.me)}", "dim"))
    return line


def notice_line(event: TimelineEvent, seen: Seen) -> Line:
    """A change, as a sentence."""
    who = seen.names(event.author)
    body = event.body
    match body:
        case DialogCreated():
            said = f"{who} began this"
        case MembersAdded(members=members):
            said = f"{who} added {', '.join(seen.names(each) for each in members)}"
            if members == [event.author]:
                said = f"{who} joined"
        case MemberRemoved(member=member):
            said = f"{who} removed {seen.names(member)}"
        case MemberLeft():
            said = f"{who} left"
        case Promoted(member=member):
            said = f"{seen.names(member)} is an admin now"
        case Demoted(member=member):
            said = f"{seen.names(member)} is no admin any more"
        case SettingsChanged(name=name):
            said = f"{who} changed the settings; the name is {clean(name)}"
        case _:
            said = _own_change(body, who, seen)
    return [(f"{event.seq:>5} {_clock(event.at_ms)} — {said} —", "dim")]


def _own_change(body: AnyBody, who: str, seen: Seen) -> str:
    """What stands in one's notes to self."""
    match body:
        case Muted(until_ms=until_ms):
            return f"{who} {'muted' if until_ms else 'unmuted'} a dialog"
        case Blocked(principal=principal):
            return f"{who} blocked {seen.names(principal)}"
        case Unblocked(principal=principal):
            return f"{who} unblocked {seen.names(principal)}"
        case ProfileChanged():
            return f"{who} changed the profile"
        case _:
            return type(body).__name__


def pending_line(command: Numbered, seen: Seen) -> Line | None:
    """What one did to a dialog's messages and the server has not confirmed yet."""
    match command:
        case Send(payload=payload):
            said = text_of(payload)
        case Edit(target=target, payload=payload):
            said = f"{target} becomes: {text_of(payload)}"
        case Delete(target=target):
            said = f"deletes {target}"
        case React(target=target, payload=payload):
            said = f"reacts to {target}: {text_of(payload)}" if payload else f"takes the reaction to {target} back"
        case _:
            return None
    return [("        … ", "dim"), (seen.names(seen.me), "bold cyan"), (f"  {said}  not sent yet", "dim")]


def transcript(dialog: DialogView, pending: Iterable[Numbered], seen: Seen, newest: int) -> list[Line]:
    """The newest entries of a dialog that follow one another without a hole, then what waits to be sent."""
    entries = [entry for entry in dialog.timeline() if entry.seq >= dialog.loaded_from]
    lines = [
        message_line(dialog, entry, seen) if isinstance(entry, Message) else notice_line(entry, seen)
        for entry in entries[-newest:]
    ]
    lines += [line for command in pending if (line := pending_line(command, seen)) is not None]
    return lines


def _reactions(payloads: Iterable[bytes]) -> list[str]:
    counts: dict[str, int] = {}
    for payload in payloads:
        shown = text_of(payload).replace("\n", " ")
        counts[shown] = counts.get(shown, 0) + 1
    return [shown if count == 1 else f"{shown}{count}" for shown, count in sorted(counts.items())]


def _clock(at_ms: int) -> str:
    return time.strftime("%H:%M", time.localtime(at_ms / 1000))
