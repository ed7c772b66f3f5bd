"""Events that carry what a person wrote: which these are, where they stand, and how the app gets them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeGuard

import msgspec

from protocol.bodies import Edited, Erased, Posted, Reacted, TimelineEvent, tag_of
from protocol.commands import Edit, Numbered, React, Send
from protocol.kinds import KINDS
from tchat.crypto.envelope import Place
from tchat.encryption.notices import Unreadable

Content = Posted | Edited | Reacted


def content_of(event: TimelineEvent) -> Content | None:
    """What a member wrote; None for what services post, and for changes."""
    match event.body:
        case Posted(kind=kind) as body if KINDS[kind].by_members:
            return body
        case Edited() | Reacted() as body:
            return body
        case _:
            return None


def is_content(command: Numbered) -> TypeGuard[Send | Edit | React]:
    """Whether a command carries what a member writes."""
    return isinstance(command, Edit | React) or (isinstance(command, Send) and KINDS[command.kind].by_members)


def place_of(event: TimelineEvent, body: Content) -> Place:
    """Where an event stands and what it is about, as the server gives it."""
    header = body.header
    return Place(
        event.dialog,
        event.author,
        event.device,
        event.n,
        tag_of(type(body)),
        int(body.kind) if isinstance(body, Posted) else None,
        header.keys_seq,
        None if isinstance(body, Posted) else body.target,
        header.reply_to,
        header.expires_at_ms,
        header.ref,
    )


def with_payload(event: TimelineEvent, body: Content, payload: bytes) -> TimelineEvent:
    """The event with another payload."""
    return msgspec.structs.replace(event, body=msgspec.structs.replace(body, payload=payload))


def blanked(event: TimelineEvent) -> TimelineEvent:
    """An event that is not believed, without its content: a message has its place, an edit or reaction does nothing."""
    if isinstance(event.body, Posted):
        return with_payload(event, event.body, b"")
    return msgspec.structs.replace(event, body=Erased())


def shown(outcomes: Iterable[TimelineEvent | Unreadable]) -> list[TimelineEvent]:
    """All events, blank where one is not readable."""
    return [blanked(one.event) if isinstance(one, Unreadable) else one for one in outcomes]
