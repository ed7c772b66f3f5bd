"""The chat that the minimal servers share: who is connected, who is in which dialog, what a command is answered with.

It has no sockets: `Line` is whatever a server sends to. Dialogs live in memory and have dense numbers. A token is not
verified: its `sub` is the person. `sync` is caught up at once, whatever the position.
"""

from __future__ import annotations

import base64
import hashlib
import time
from collections import defaultdict
from collections.abc import Collection
from typing import Generic, TypeVar

import msgspec

from protocol.bodies import AnyBody, DialogCreated, MemberRole, Posted, TimelineEvent
from protocol.codec import MSGPACK
from protocol.command_rules import Command
from protocol.commands import AnyCommand, Authenticate, Create, Heartbeat, Send, Sync
from protocol.dialog_types import DialogType, Mode, Role
from protocol.errors import ErrorCode
from protocol.events import CaughtUp, HeartbeatReply
from protocol.ids import ID_BYTES, created_dialog_id, direct_dialog_id, new_id
from protocol.limits import PAYLOAD_BYTES_MAX
from protocol.replies import Acked, Authenticated, Done, Failed, Synced

Line = TypeVar("Line")

_HEARTBEAT_S = 600.0
_IN_FLIGHT_MAX = 100_000


class _Claims(msgspec.Struct):
    sub: str


class _Dialog(Generic[Line]):
    """The members of a dialog, those who are connected, and the last number."""

    __slots__ = ("lines", "members", "messages", "seq")

    def __init__(self, members: frozenset[bytes]) -> None:
        self.members = members
        self.lines: set[Line] = set()
        self.seq = self.messages = 0


class ChatAnswer(msgspec.Struct, Generic[Line]):
    """What a server sends: `replies` to who asked, and the `event`, if there is one, to each of the `audience`."""

    replies: list[bytes]
    event: bytes = b""
    audience: Collection[Line] = ()


class SmallChat(Generic[Line]):
    """All of the chat. A line leaves with `leave`."""

    def __init__(self) -> None:
        self._who: dict[Line, tuple[bytes, bytes]] = {}
        self._lines_of: defaultdict[bytes, set[Line]] = defaultdict(set)
        self._dialogs_of: defaultdict[bytes, list[_Dialog[Line]]] = defaultdict(list)
        self._dialogs: dict[bytes, _Dialog[Line]] = {}

    def take(self, line: Line, data: bytes) -> ChatAnswer[Line]:
        """Do what a message asks for; raises `CodecError` if it is not a command."""
        command = MSGPACK.decode_command(data)
        if isinstance(command, Send):
            return self._append(line, command, command.dialog, Posted(command.kind, command.header, command.payload))
        if isinstance(command, Create):
            return self._create(line, command)
        return ChatAnswer(self._answer(line, command))

    def leave(self, line: Line) -> None:
        """Forget a line."""
        principal, _ = self._who.pop(line, (b"", b""))
        if principal:
            self._lines_of[principal].discard(line)
            for dialog in self._dialogs_of[principal]:
                dialog.lines.discard(line)

    def _answer(self, line: Line, command: AnyCommand) -> list[bytes]:
        match command:
            case Authenticate():
                return [MSGPACK.encode(self._enter(line, command))]
            case Sync():
                return [MSGPACK.encode(Synced(command.id, recovered=True)), MSGPACK.encode(CaughtUp("all"))]
            case Heartbeat():
                done = [MSGPACK.encode(Done(command.id))] if command.id else []
                return [MSGPACK.encode(HeartbeatReply()), *done]
        return [_refuse(command, ErrorCode.UNKNOWN_COMMAND)]

    def _enter(self, line: Line, command: Authenticate) -> Authenticated:
        principal, device = _principal_of(command.token), command.device or new_id()
        self._who[line] = principal, device
        self._lines_of[principal].add(line)
        for dialog in self._dialogs_of[principal]:
            dialog.lines.add(line)
        return Authenticated(
            command.id, principal, device, _now_ms(), _HEARTBEAT_S, _IN_FLIGHT_MAX, 2 * PAYLOAD_BYTES_MAX
        )

    def _create(self, line: Line, command: Create) -> ChatAnswer[Line]:
        """The new dialog with its first event; of a direct dialog that exists, the number of its last one."""
        author, device = self._who[line]
        if command.type == DialogType.DIRECT:
            dialog_id = direct_dialog_id(author, command.members[0])
        else:
            dialog_id = created_dialog_id(device, command.n)
        if known := self._dialogs.get(dialog_id):
            return ChatAnswer([MSGPACK.encode(Acked(command.id, dialog_id, command.n, known.seq, _now_ms(), 0))])
        dialog = self._dialogs[dialog_id] = _Dialog[Line](frozenset([author, *command.members]))
        for principal in dialog.members:
            self._dialogs_of[principal].append(dialog)
            dialog.lines.update(self._lines_of[principal])
        return self._append(line, command, dialog_id, _created(author, command))

    def _append(self, line: Line, command: Send | Create, dialog_id: bytes, body: AnyBody) -> ChatAnswer[Line]:
        author, device = self._who[line]
        dialog = self._dialogs.get(dialog_id)
        if dialog is None or author not in dialog.members:
            return ChatAnswer([_refuse(command, ErrorCode.DIALOG_NOT_FOUND)])
        dialog.seq += 1
        dialog.messages += isinstance(body, Posted)
        at_ms = _now_ms()
        acked = Acked(command.id, dialog_id, command.n, dialog.seq, at_ms, dialog.messages)
        event = TimelineEvent(dialog_id, dialog.seq, author, device, command.n, at_ms, dialog.messages, body)
        return ChatAnswer([MSGPACK.encode(acked)], MSGPACK.encode(event), dialog.lines)


def _created(author: bytes, command: Create) -> DialogCreated:
    members = [MemberRole(author, Role.ADMIN), *(MemberRole(member, Role.MEMBER) for member in command.members)]
    return DialogCreated(
        command.type,
        command.mode or Mode.OPEN,
        command.name,
        command.description,
        command.avatar_url,
        command.settings,
        members,
    )


def _principal_of(token: str) -> bytes:
    """The id of the person whom a token names as `sub`; a token that is none names itself."""
    try:
        claims = token.split(".")[1]
        name = msgspec.json.decode(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)), type=_Claims).sub
    except (IndexError, ValueError, msgspec.MsgspecError):
        name = token
    return hashlib.blake2b(name.encode(), digest_size=ID_BYTES).digest()


def _refuse(command: Command, code: ErrorCode) -> bytes:
    return MSGPACK.encode(Failed(command.id, code, "a baseline does not have it"))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
