"""The sealer that encrypts: it hands the keys of a dialog's session on first, then seals under them.

Who may read is not decided here, but by a `ReaderSource`, from rosters and device logs.

Invariants:

- Nothing is sealed before the server has stored the slices of its share, and has said that they are for all who read.
- What an answer does not confirm is uploaded again: the server passes over what it has.
- A share whose message does not leave any more makes room for others when there are too many.
- When the server does not know a share of these members, or to whom it went before, it has lost that (it was restored):
  a new session is begun, once for each. Also when it says that this device has left the session (it was signed out).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from protocol.bodies import Edited, Header, Posted, Reacted, TimelineEvent, tag_of
from protocol.command_rules import Command
from protocol.commands import Add, Edit, Invite, Numbered, Promote, React, Send
from protocol.errors import ErrorCode
from protocol.events import DialogState
from protocol.kinds import KINDS
from protocol.limits import SEALED_CONTENT_BYTES_MAX, SLICES_PER_COMMAND_MAX
from protocol.replies import Failed, Reply, SlicesUploaded
from protocol.share_commands import Slice, UploadSlices
from tchat.crypto.envelope import Place, Sealed
from tchat.crypto.errors import TooManySharesError
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.megolm import Chunk, Removals
from tchat.crypto.olm import KnownDevice
from tchat.crypto.state import OutboxRow
from tchat.encryption.sealing import Clear, First, NotYet, Outcome, Ready

SEALED_REACTION_BYTES_MAX = 128
"""A longer one would not fit the payload of a reaction once it is sealed."""
_TAGS: dict[type[Numbered], int] = {Send: tag_of(Posted), Edit: tag_of(Edited), React: tag_of(Reacted)}


@dataclass(frozen=True, slots=True)
class Readers:
    """The devices that may read what is sealed at this `keys_seq`, all of which this device can write to."""

    keys_seq: int
    view: bytes
    devices: Sequence[KnownDevice]
    removals: Mapping[bytes, Removals] = field(default_factory=dict)
    """Of each reader: the identity of the device log, and how many devices it has lost."""


class ReaderSource(Protocol):
    """Says who may read a dialog, from what its members have signed, and signs changes of that."""

    def readers_of(self, dialog: bytes) -> Readers | Clear | First | NotYet | Failed:
        """`Clear` for a dialog that is not sealed; never for one that is not known yet."""

    def sign(self, intent: Numbered, row: Callable[[Numbered], bytes]) -> Outcome:
        """Sign a command that changes who reads (see `Sealer.seal`); `Clear` for any other one."""

    def answered(self, command: Command, reply: Reply) -> None:
        """The answer to what it asked for, or to an upload of slices, which may say that others read."""

    def stale(self, dialog: bytes, made_at: int, failed: Failed) -> None:
        """The server says that others read now than at this `keys_seq`, at which something was made."""

    def heard(self, event: TimelineEvent | DialogState) -> None:
        """An event of the server, in order."""

    def reset(self) -> None:
        """All that is known of dialogs comes again."""


@dataclass(slots=True)
class _Upload:
    """What the server has confirmed of the newest share of a dialog."""

    share: bytes
    stored: set[bytes] = field(default_factory=set)
    complete: bool = False


class DeviceSealer:
    """A `Sealer`: seals messages, edits and reactions of one device. `now_ms` is the time since 1970."""

    def __init__(self, machine: CryptoMachine, source: ReaderSource, now_ms: Callable[[], int]) -> None:
        self._machine = machine
        self._source = source
        self._now_ms = now_ms
        self._uploads: dict[bytes, _Upload] = {}
        self._sharing: set[bytes] = set()
        """Dialogs in which a message is under way, and may need a share."""
        self._renewed: dict[bytes, bytes | None] = {}
        """By dialog: the session of which the server did not know the share."""

    def seal(self, intent: Numbered, row: Callable[[Numbered], bytes]) -> Outcome:
        if not isinstance(intent, Send | Edit | React):
            return self._source.sign(intent, row)
        if isinstance(intent, Send) and not KINDS[intent.kind].by_members:
            return Clear()
        readers = self._source.readers_of(intent.dialog)
        if not isinstance(readers, Readers):
            self._sharing.discard(intent.dialog)
            return readers
        if len(intent.payload) > _content_bytes_max(intent):
            text = f"It is too long to be encrypted: at most {_content_bytes_max(intent)} bytes."
            return Failed(0, ErrorCode.INVALID_ARGUMENT, text)
        self._sharing.add(intent.dialog)
        now_ms = self._now_ms()
        before = self._share(intent.dialog, readers, now_ms)
        return before or self._seal(intent, readers, now_ms, row)

    def answered(self, command: Command, reply: Reply) -> None:
        self._source.answered(command, reply)
        if isinstance(command, UploadSlices) and isinstance(reply, SlicesUploaded):
            upload = self._upload_of(command.dialog, command.share)
            upload.stored.add(_key(command))
            upload.complete = upload.complete or reply.complete
            if not command.more and self._machine.was_handed(command.session, reply.missing):
                self._renew(command.dialog, command.session)
        elif isinstance(command, UploadSlices) and isinstance(reply, Failed) and reply.code == ErrorCode.CONFLICT:
            self._renew(command.dialog, command.session)

    def stale(self, sealed: Numbered, failed: Failed) -> None:
        if isinstance(sealed, Send | Edit | React):
            header, dialog = sealed.header, sealed.dialog
            self._forget_upload(header.share, dialog)
            if failed.keys_seq == header.keys_seq:
                self._renew(dialog, header.session)
            self._source.stale(dialog, header.keys_seq, failed)
        elif isinstance(sealed, Add | Promote | Invite) and sealed.signed is not None:
            self._source.stale(sealed.dialog, sealed.signed.keys_seq, failed)

    def acked(self, sealed: Numbered) -> None:
        if isinstance(sealed, Send | Edit | React):
            self._machine.acked(sealed.dialog, sealed.n, sealed.header.share)
            self._forget_upload(sealed.header.share, sealed.dialog)
            self._sharing.discard(sealed.dialog)

    def dropped(self, command: Numbered) -> None:
        if isinstance(command, Send | Edit | React):
            self._sharing.discard(command.dialog)

    def heard(self, event: TimelineEvent | DialogState) -> None:
        self._source.heard(event)

    def reset(self) -> None:
        self._source.reset()

    def _share(self, dialog: bytes, readers: Readers, now_ms: int) -> First | NotYet | None:
        """See that all readers have the session, or will have it with the next message: None then."""
        while True:
            try:
                shared = self._machine.share(
                    dialog,
                    readers.devices,
                    keys_seq=readers.keys_seq,
                    view=readers.view,
                    now_ms=now_ms,
                    removals=readers.removals,
                )
            except TooManySharesError:
                if self._machine.forget_shares(self._sharing):
                    continue
                return NotYet()
            if shared.complete:
                break
            if shared.unreachable:
                return NotYet()
        if shared.share is None:
            return None
        upload = self._upload_of(dialog, shared.share)
        if upload.complete:
            return None
        commands = [one for one in _commands(self._machine.chunks_of(shared.share)) if _key(one) not in upload.stored]
        if commands:
            # What the share lacks is known with the last one: what is said before would count as a contradiction.
            return First([*(msgspec.structs.replace(one, more=True) for one in commands[:-1]), commands[-1]])
        upload.stored.clear()  # all is there, and it is not for all who read now: after the next event, ask again
        return NotYet()

    def _renew(self, dialog: bytes, session: bytes | None) -> None:
        """The server does not know who has this session: begin another one, once."""
        if self._renewed.get(dialog) != session:
            self._renewed[dialog] = session
            self._machine.forget_dialog(dialog)

    def _upload_of(self, dialog: bytes, share: bytes) -> _Upload:
        upload = self._uploads.get(dialog)
        if upload is None or upload.share != share:
            upload = self._uploads[dialog] = _Upload(share)
        return upload

    def _forget_upload(self, share: bytes | None, dialog: bytes) -> None:
        if dialog in self._uploads and self._uploads[dialog].share == share:
            del self._uploads[dialog]

    def _seal(
        self, intent: Send | Edit | React, readers: Readers, now_ms: int, row: Callable[[Numbered], bytes]
    ) -> Outcome:
        made: list[Numbered] = []

        def command(sealed: Sealed) -> OutboxRow:
            made.append(_command_of(intent, sealed, readers.keys_seq))
            return OutboxRow(intent.n, row(made[0]))

        place = self._place_of(intent, readers.keys_seq)
        self._machine.seal(place, intent.payload, view=readers.view, now_ms=now_ms, command=command)
        return Ready(made[0])

    def _place_of(self, intent: Send | Edit | React, keys_seq: int) -> Place:
        header = intent.header
        return Place(
            intent.dialog,
            self._machine.principal,
            self._machine.device,
            intent.n,
            _TAGS[type(intent)],
            int(intent.kind) if isinstance(intent, Send) else None,
            keys_seq,
            None if isinstance(intent, Send) else intent.target,
            header.reply_to,
            header.expires_at_ms,
            header.ref,
        )


def _command_of(intent: Send | Edit | React, sealed: Sealed, keys_seq: int) -> Numbered:
    said = intent.header
    header = Header(
        reply_to=said.reply_to,
        expires_at_ms=said.expires_at_ms,
        ref=said.ref,
        keys_seq=keys_seq,
        commitment=sealed.commitment,
        session=sealed.session,
        share=sealed.share,
    )
    return msgspec.structs.replace(intent, payload=sealed.payload, header=header)


def _content_bytes_max(intent: Send | Edit | React) -> int:
    return SEALED_REACTION_BYTES_MAX if isinstance(intent, React) else SEALED_CONTENT_BYTES_MAX


def _commands(chunks: Sequence[Chunk]) -> Iterator[UploadSlices]:
    """The uploads of a share, in the order in which its slices were made; one without slices if it has none."""
    for chunk in chunks:
        slices = [Slice(device, body) for device, body in chunk.slices]
        for start in range(0, max(1, len(slices)), SLICES_PER_COMMAND_MAX):
            part = slices[start : start + SLICES_PER_COMMAND_MAX]
            yield UploadSlices(0, chunk.share, chunk.dialog, chunk.session, chunk.keys_seq, part)


def _key(command: UploadSlices) -> bytes:
    """What tells the uploads of one share apart: no two slices are the same bytes."""
    return command.slices[0].body if command.slices else b""
