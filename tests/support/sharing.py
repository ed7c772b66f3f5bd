"""A device that hands keys to all who read, before each message that needs it, and encrypts nothing.

For the server all is as with a device that encrypts: shares, slices, sessions that end with their readers, signatures.
So what it must refuse, store and deliver in sealed dialogs is held to it where payloads are compared in the clear. Who
reads is what the server says is missing: this device believes it. Signatures are bytes that nobody checks. A device may
be careless: now and then it does not hand keys on, or sends in the clear, which the server must refuse. It is so once,
and then careful until something of it was stored.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from protocol.bodies import (
    DevicesChanged,
    DialogCreated,
    MemberLeft,
    MemberRemoved,
    MembersAdded,
    Signed,
    TimelineEvent,
)
from protocol.command_rules import Command
from protocol.commands import Add, Create, Invite, Numbered, Promote
from protocol.dialog_types import Mode
from protocol.errors import ErrorCode
from protocol.events import DialogState, Event, KeySlices
from protocol.ids import new_id
from protocol.limits import SLICES_PER_COMMAND_MAX
from protocol.replies import Failed, Reply, SlicesUploaded
from protocol.share_commands import ConfirmSlices, Slice, UploadSlices
from tchat.encryption.contents import Content, content_of, is_content
from tchat.encryption.sealing import Clear, First, Outcome, Ready
from tchat.encryption.signing import is_sealed_group
from tchat.store import OutboxStore, Stored
from tests.support.sealers import PlainSealer
from tests.support.world import UNCHECKED

_SESSION_BYTES = 32
_AGAIN_S = 0.5
_IN_THE_CLEAR, _WITHOUT_KEYS = 0.02, 0.2
"""How often a careless device sends so; the second, of the times when others lack its keys."""


@dataclass
class _Session:
    """A session of this device in a dialog, and the share that it is being handed on with."""

    session: bytes = field(default_factory=lambda: os.urandom(_SESSION_BYTES))
    share: bytes = b""
    made_at: int = -1
    """The `keys_seq` of the share."""
    missing: Sequence[bytes] = ()
    complete: bool = False
    shared_at: int = -1
    """The `keys_seq` at which all had it, by an event that was stored."""


@dataclass
class KeyRing:
    """What a device keeps of keys over all its lives. `had`: by device and session the first `keys_seq` of a slice."""

    device: bytes
    had: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    sessions: dict[bytes, _Session] = field(default_factory=dict)
    modes: dict[bytes, Mode] = field(default_factory=dict)
    keys_seq: Counter[bytes] = field(default_factory=Counter)

    def take(self, message: KeySlices) -> None:
        """Keep these keys."""
        for each in message.slices:
            session, to = each.body[:_SESSION_BYTES], each.body[_SESSION_BYTES:]
            assert to == self.device, "a slice is for one device"
            key = each.device, session
            self.had[key] = min(each.keys_seq, self.had.get(key, each.keys_seq))
            self.counts["slices"] += 1

    def opens(self, event: TimelineEvent) -> bool:
        """Whether this device could read an event: it is its own, or not sealed, or its keys are here."""
        content = content_of(event)
        if content is None or event.device == self.device or (session := session_of(content)) is None:
            return True
        return (event.device, session) in self.had


def session_of(content: Content) -> bytes | None:
    """The session that something was sealed under; None: it was not, or there is nothing in it."""
    return content.header.session if content.payload else None


class SharingSealer(PlainSealer):
    """See the module. `keys` outlive the client, as those on a disk do. With `dice` it is careless."""

    def __init__(self, store: OutboxStore, keys: KeyRing, dice: random.Random | None = None) -> None:
        super().__init__(store)
        self._keys = keys
        self._dice = dice
        self._careful: set[bytes] = set()
        """Dialogs in which it was careless, until it is right there: each time in a row it would wait longer."""
        self._modes = keys.modes
        self._keys_seq = keys.keys_seq
        self._not_found: set[bytes] = set()
        """Dialogs of which this person is no member, as an upload has learned; until the next event of them."""
        self._to_confirm: list[int] = []
        self._confirming = False
        self._confirm_at = 0.0

    # what leaves

    def seal(self, intent: Numbered, row: Callable[[Numbered], bytes]) -> Outcome:
        if isinstance(intent, Create) and is_sealed_group(intent):
            return self._leave(msgspec.structs.replace(intent, signature=UNCHECKED), row)
        dialog: bytes = getattr(intent, "dialog", b"")
        if self._modes.get(dialog) is not Mode.SEALED:
            return super().seal(intent, row)
        if isinstance(intent, Add | Promote | Invite):
            signed = Signed(self._keys_seq[dialog], bytes(32), UNCHECKED)
            return self._leave(msgspec.structs.replace(intent, signed=signed), row)
        if not is_content(intent):
            return super().seal(intent, row)
        if dialog in self._not_found:
            return Failed(0, ErrorCode.DIALOG_NOT_FOUND, "")
        if intent.payload and self._happens(_IN_THE_CLEAR, dialog):  # a withdrawal would be stored so
            return Clear()
        return self._hand_on(dialog) or self._seal(intent, row)

    def _happens(self, often: float, dialog: bytes) -> bool:
        return self._dice is not None and dialog not in self._careful and self._dice.random() < often

    def _hand_on(self, dialog: bytes) -> First | None:
        """What is uploaded before anything is sealed; None: nothing."""
        own, keys_seq = self._keys.sessions.setdefault(dialog, _Session()), self._keys_seq[dialog]
        if own.shared_at == keys_seq:
            return None
        if own.made_at != keys_seq:
            own.share, own.made_at, own.missing, own.complete = new_id(), keys_seq, (), False
        if own.complete or self._happens(_WITHOUT_KEYS, dialog):
            return None
        slices = [Slice(device, own.session + device) for device in own.missing[:SLICES_PER_COMMAND_MAX]]
        return First([UploadSlices(0, own.share, dialog, own.session, keys_seq, slices)])

    def _seal(self, intent: Numbered, row: Callable[[Numbered], bytes]) -> Ready:
        assert is_content(intent)
        own, keys_seq = self._keys.sessions[intent.dialog], self._keys_seq[intent.dialog]
        shared = own.shared_at == keys_seq
        if not (shared or own.complete):
            # This is stale. Another copy of it may be on its way, so no other message completes its share later.
            del self._keys.sessions[intent.dialog]
        header = msgspec.structs.replace(
            intent.header,
            keys_seq=keys_seq,
            commitment=bytes(32),
            session=own.session,
            share=None if shared else own.share,
        )
        return self._leave(msgspec.structs.replace(intent, header=header), row)

    def _leave(self, command: Numbered, row: Callable[[Numbered], bytes]) -> Ready:
        self._store.replace(Stored(command.n, row(command)))
        return Ready(command)

    # what the server says of it

    def answered(self, command: Command, reply: Reply) -> None:
        assert isinstance(command, UploadSlices)
        own = self._keys.sessions.get(command.dialog)
        match reply:
            case Failed(code=ErrorCode.STALE):
                self._keys_seq[command.dialog] = reply.keys_seq or 0
            case Failed(code=ErrorCode.DIALOG_NOT_FOUND):
                self._not_found.add(command.dialog)
            case _ if own is None or own.share != command.share:
                pass
            case SlicesUploaded(extra=[]):
                own.complete, own.missing = reply.complete, reply.missing
            case SlicesUploaded() | Failed(code=ErrorCode.CONFLICT):
                del self._keys.sessions[command.dialog]
            case _:
                own.missing = ()

    def stale(self, sealed: Numbered, failed: Failed) -> None:
        dialog: bytes = getattr(sealed, "dialog")  # noqa: B009 - only some commands have it
        if self._modes.get(dialog) is not Mode.SEALED:
            super().stale(sealed, failed)
            return
        self._keys.counts["stale"] += 1
        self._careful.add(dialog)
        self._keys_seq[dialog] = failed.keys_seq or 0
        if is_content(sealed) and sealed.header.keys_seq == failed.keys_seq:
            self._keys.sessions.pop(dialog, None)  # the server has lost the share, or another device is missing

    def acked(self, sealed: Numbered) -> None:
        if is_content(sealed) and sealed.header.session is not None:
            self._keys.counts["sealed"] += 1
            self._careful.discard(sealed.dialog)
            own = self._keys.sessions.get(sealed.dialog)
            if own is not None and own.share == sealed.header.share:
                own.shared_at = own.made_at

    # what arrives

    def heard(self, event: TimelineEvent | DialogState) -> None:
        dialog = event.dialog
        self._not_found.discard(dialog)
        if isinstance(event, DialogState):
            self._modes[dialog], self._keys_seq[dialog] = event.mode, event.keys_seq
            return
        match event.body:
            case DialogCreated(mode=mode):
                self._modes[dialog], self._keys_seq[dialog] = mode, event.seq
            case MembersAdded() | MemberRemoved() | MemberLeft() | DevicesChanged():
                self._keys_seq[dialog] = max(event.seq, self._keys_seq[dialog])
            case _:
                pass

    def received(self, message: Event) -> None:
        if isinstance(message, KeySlices):
            self._to_confirm += (each.number for each in message.slices)

    def open(self, event: TimelineEvent) -> TimelineEvent:
        return event

    # confirmations

    def due(self, now: float) -> Sequence[Command]:
        if self._confirming or not self._to_confirm or now < self._confirm_at:
            return ()
        self._confirming = True
        return [ConfirmSlices(0, self._to_confirm[:SLICES_PER_COMMAND_MAX])]

    def next_due(self) -> float | None:
        return self._confirm_at if self._to_confirm and not self._confirming else None

    def replied(self, command: Command, reply: Reply, now: float) -> None:
        assert isinstance(command, ConfirmSlices)
        self._confirming = False
        if isinstance(reply, Failed):
            self._confirm_at = now + _AGAIN_S
        else:
            self._to_confirm = self._to_confirm[len(command.numbers) :]

    def disconnected(self) -> None:
        self._to_confirm.clear()
        self._confirming = False
