"""The lines that the terminal shows of a view: pieces of text with their styles, without a terminal or a clock."""

from __future__ import annotations

import itertools
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from protocol.bodies import (
    AnyBody,
    Blocked,
    Declined,
    Demoted,
    DevicesChanged,
    DialogCreated,
    Invited,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    Muted,
    Pinned,
    ProfileChanged,
    Promoted,
    SettingsChanged,
    TimelineEvent,
    Unblocked,
)
from protocol.commands import Delete, Edit, Numbered, React, Send
from protocol.dialog_types import DIALOG_TYPES, DialogType, Mode
from protocol.json_forms import tag_name
from tchat.crypto.errors import Reason
from tchat.fold.view import DialogView, Message

_PINNED_CHARS_MAX = 40

Line = list[tuple[str, str]]
"""Pieces of one line, each with its style."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who looks, how they call a principal, and when: what lines depend on beside the dialog."""

    me: bytes
    name_of: Callable[[bytes], str]
    now_ms: int


def clean(text: str) -> str:
    """Text of other people without characters that could control the terminal."""
    return "".join(char if char.isprintable() or char == "\n" else "\ufffd" for char in text)


def clean_line(text: str) -> str:
    """The same on one line: for names, titles and sentences of a server."""
    return clean(text).replace("\n", "\ufffd")


def text_of(payload: bytes) -> str:
    """A payload as text that is safe to show."""
    return clean(payload.decode("utf-8", "replace"))


def title(dialog: DialogView, viewer: Viewer) -> str:
    """The title of a dialog."""
    if dialog.type is DialogType.SELF:
        return "Notes to self"
    if dialog.type is DialogType.DIRECT:
        others = [who for who in dialog.members or () if who != viewer.me]
        return viewer.name_of(others[0]) if others else "somebody"
    return clean_line(dialog.name) or "unnamed"


def about(dialog: DialogView) -> str:
    """A dialog in a few words: type, members, mode."""
    parts = [
        dialog.type.name.lower(),
        f"{dialog.member_count} member{'' if dialog.member_count == 1 else 's'}",
        "encrypted" if dialog.mode is Mode.SEALED else "not encrypted",
    ]
    pinned = dialog.message(dialog.pinned) if dialog.pinned is not None else None
    if pinned is not None and not pinned.deleted:
        parts.append(f"pinned {pinned.seq}: {textwrap.shorten(text_of(pinned.payload), _PINNED_CHARS_MAX)}")
    return ", ".join(parts)


def dialog_line(dialog: DialogView, viewer: Viewer, *, typing: bool, invitations: int = 0) -> Line:
    """A dialog in the list: title, whether somebody types, how much is unread; with `self`, how many invitations."""
    line = [(title(dialog, viewer), "bold" if dialog.unread else "")]
    if not dialog.member:
        line.append(("  (left)", "dim"))
    if dialog.muted_until_ms > viewer.now_ms:
        line.append(("  muted", "dim"))
    if typing:
        line.append(("  …", "green"))
    if dialog.type is DialogType.SELF and invitations:
        line.append((f"  {invitations} invitation{'' if invitations == 1 else 's'}", "bold cyan"))
    if dialog.unread:
        line.append((f"  {dialog.unread}", "bold cyan"))
    return line


def ticks(dialog: DialogView, message: Message, me: bytes) -> str:
    """The progress of an own message: stored, received by all, read by all."""
    if not DIALOG_TYPES[dialog.type].receipts:
        return "✓"
    others = [who for who in dialog.members or () if who != me]
    receipts = [dialog.receipts.get(who) for who in others]
    if receipts and all(receipt and receipt.read >= message.seq for receipt in receipts):
        return "✓✓ read"
    if receipts and all(receipt and receipt.delivered >= message.seq for receipt in receipts):
        return "✓✓"
    return "✓"


def message_line(dialog: DialogView, message: Message, viewer: Viewer) -> Line:
    """One message with its edits, reactions and ticks."""
    line: Line = []
    line.append((f"{message.seq:>5} {_clock(message.at_ms)} ", "dim"))
    line.append((viewer.name_of(message.author), "bold cyan" if message.author == viewer.me else "bold green"))
    line.append(("  ", ""))
    expires = message.header.expires_at_ms
    if message.deleted:
        line.append(("deleted", "dim italic"))
        return line
    if expires is not None and expires <= viewer.now_ms:
        line.append(("expired", "dim italic"))
        return line
    if message.header.reply_to is not None:
        line.append((f"↩ {message.header.reply_to} ", "dim"))
    if message.unreadable is not None:
        line.append((Reason(message.unreadable).sentence, "dim italic"))
    else:
        line.append((text_of(message.payload), ""))
    if message.edit is not None:
        line.append((" (edited)", "dim"))
    if message.unreadable_edit is not None:
        line.append((f" (edited; {Reason(message.unreadable_edit[1]).sentence})", "dim italic"))
    if reactions := message.reactions:
        line.append(("  " + " ".join(_reactions(reactions.values())), "yellow"))
    if message.author == viewer.me:
        line.append((f"  {ticks(dialog, message, viewer.me)}", "dim"))
    return line


def notice_line(event: TimelineEvent, viewer: Viewer) -> Line:
    """A change, as a sentence."""
    who = viewer.name_of(event.author)
    body = event.body
    match body:
        case DialogCreated():
            said = f"{who} created this dialog"
        case MembersAdded(members=members):
            said = f"{who} added {', '.join(viewer.name_of(each) for each in members)}"
            if members == [event.author]:
                said = f"{who} joined"
        case MemberRemoved(member=member):
            said = f"{who} removed {viewer.name_of(member)}"
        case MemberLeft():
            said = f"{who} left"
        case Promoted(member=member):
            said = f"{viewer.name_of(member)} is an admin now"
        case Demoted(member=member):
            said = f"{viewer.name_of(member)} is not an admin any more"
        case SettingsChanged(name=name):
            said = f"{who} changed the settings; the name is {clean_line(name)}"
        case Pinned(target=target):
            said = f"{who} unpinned the message" if target is None else f"{who} pinned {target}"
        case _:
            said = _own_change(body, who, viewer)
    return [(f"{event.seq:>5} {_clock(event.at_ms)} — {said} —", "dim")]


def _own_change(body: AnyBody, who: str, viewer: Viewer) -> str:
    """The changes in the `self` dialog, then any other."""
    match body:
        case Muted(until_ms=until_ms):
            said = f"{who} {'muted' if until_ms else 'unmuted'} a dialog"
        case Blocked(principal=principal):
            said = f"{who} blocked {viewer.name_of(principal)}"
        case Unblocked(principal=principal):
            said = f"{who} unblocked {viewer.name_of(principal)}"
        case ProfileChanged():
            said = f"{who} changed the profile"
        case Invited(type=type_, name=name):
            said = f"{who} invites you into the {type_.name.lower()} {clean_line(name)} (/accept, /decline)"
        case DevicesChanged(principal=principal):
            said = f"the devices of {viewer.name_of(principal)} changed"
        case Declined():
            said = f"{who} declined an invitation"
        case _:
            said = _default_sentence(body, who, viewer)
    return said


def _default_sentence(body: AnyBody, who: str, viewer: Viewer) -> str:
    """A body without a sentence of its own: the words of its name, then its fields."""
    fields = (f"{name} {_field_text(name, getattr(body, name), viewer)}" for name in body.__struct_fields__)
    said = ", ".join(fields)
    return f"{who}: {tag_name(type(body)).replace('_', ' ')}" + (f" ({said})" if said else "")


def _field_text(name: str, value: object, viewer: Viewer) -> str:
    if isinstance(value, bytes):
        is_principal = len(value) == len(viewer.me) and name != "dialog"
        return viewer.name_of(value) if is_principal else text_of(value)
    return clean(str(value))


def pending_line(command: Numbered, viewer: Viewer) -> Line | None:
    """A command about messages that the server has not confirmed yet; None for other commands."""
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
    return [("        … ", "dim"), (viewer.name_of(viewer.me), "bold cyan"), (f"  {said}  not sent yet", "dim")]


def transcript(dialog: DialogView, pending: Iterable[Numbered], viewer: Viewer, newest: int) -> list[Line]:
    """The newest entries of a dialog without a gap, then the commands that are not sent yet."""
    entries = [entry for entry in dialog.timeline() if entry.seq >= dialog.loaded_from]
    lines: list[Line] = []
    for keyless, run in itertools.groupby(entries[-newest:], _is_keyless):
        several = list(run)
        if keyless and len(several) > 1:
            lines.append(_keyless_line(several))
        else:
            lines += [
                message_line(dialog, entry, viewer) if isinstance(entry, Message) else notice_line(entry, viewer)
                for entry in several
            ]
    lines += [line for command in pending if (line := pending_line(command, viewer)) is not None]
    return lines


def _is_keyless(entry: Message | TimelineEvent) -> bool:
    """Whether this is a message of which keys may still come: on a new device, all of the past."""
    return isinstance(entry, Message) and not entry.deleted and entry.unreadable == Reason.UNKNOWN_SESSION


def _keyless_line(run: Sequence[Message | TimelineEvent]) -> Line:
    """Messages in a row without keys, as one line."""
    said = f"{len(run)} messages, up to {run[-1].seq}: {Reason.UNKNOWN_SESSION.sentence}"
    return [(f"{run[0].seq:>5} {_clock(run[0].at_ms)} ", "dim"), (said, "dim italic")]


def _reactions(payloads: Iterable[bytes]) -> list[str]:
    counts: dict[str, int] = {}
    for payload in payloads:
        shown = text_of(payload).replace("\n", " ")
        counts[shown] = counts.get(shown, 0) + 1
    return [shown if count == 1 else f"{shown}{count}" for shown, count in sorted(counts.items())]


def _clock(at_ms: int) -> str:
    return time.strftime("%H:%M", time.localtime(at_ms / 1000))
