"""A scripted server: builds the messages of a server, and reads those of a client."""

from __future__ import annotations

import random

import msgspec

from protocol.bodies import AnyBody, Header, Posted, Settings, TimelineEvent
from protocol.codec import MSGPACK, Codec
from protocol.commands import AnyCommand, Authenticate, Sync
from protocol.dialog_types import DialogType, Mode, Role
from protocol.events import CaughtUp, DialogState
from protocol.kinds import Kind
from protocol.replies import Acked, Authenticated, Failed, Member, Synced
from tchat.actions import Action, CloseConnection, Connect, Emit, Notification, SendBytes
from tchat.core import ClientCore
from tchat.encryption.end_to_end import EndToEnd
from tchat.store import MemoryOutbox, OutboxStore

ME = bytes([1]) * 16
ANN = bytes([2]) * 16
BOB = bytes([3]) * 16
DEVICE = bytes([9]) * 16
OTHER_DEVICE = bytes([8]) * 16
DIALOG = bytes([100]) * 16
SECOND = bytes([101]) * 16
IN_FLIGHT_MAX = 4
HEARTBEAT_S = 20.0


def posted(text: bytes = b"hello", kind: Kind = Kind.MESSAGE) -> Posted:
    return Posted(kind, Header(), text)


def event_at(
    seq: int,
    body: AnyBody | None = None,
    *,
    dialog: bytes = DIALOG,
    author: bytes = ANN,
    device: bytes = OTHER_DEVICE,
    n: int | None = None,
    messages: int | None = None,
) -> TimelineEvent:
    return TimelineEvent(
        dialog,
        seq,
        author,
        device,
        n if n is not None else 1000 + seq,
        1_700_000_000_000 + seq,
        seq if messages is None else messages,
        posted() if body is None else body,
    )


def dialog_state(seq: int = 0, first_seq: int = 1, *, dialog: bytes = DIALOG, **changes: object) -> DialogState:
    members = [Member(ME, Role.MEMBER, "Me"), Member(ANN, Role.ADMIN, "Ann"), Member(BOB, Role.MEMBER, "Bob")]
    state = DialogState(
        dialog=dialog,
        type=DialogType.GROUP,
        mode=Mode.OPEN,
        name="Team",
        description="",
        avatar_url="",
        settings=Settings(),
        role=Role.MEMBER,
        member=True,
        seq=seq,
        messages=seq,
        keys_seq=0,
        member_count=3,
        first_seq=first_seq,
        visible=[(1, 0)],
        delivered=0,
        read=0,
        read_messages=0,
        muted_until_ms=0,
        members=members,
    )
    return msgspec.structs.replace(state, **changes)


def failed(
    command: AnyCommand,
    code: str,
    retry_after_s: float | None = None,
    keys_seq: int | None = None,
    awaited_n: int | None = None,
) -> Failed:
    return Failed(command.id, code, "no", retry_after_s, keys_seq, awaited_n)


class Script:
    """A client core, the time, and the server's side of its connection."""

    def __init__(
        self,
        store: OutboxStore | None = None,
        codec: Codec = MSGPACK,
        now: float = 1000.0,
        encryption: EndToEnd | None = None,
    ) -> None:
        self.now = now
        self.codec = codec
        self.core = ClientCore(store or MemoryOutbox(first_n=1), codec, random.Random(7), encryption)
        self.written: list[AnyCommand] = []
        self.events: list[Notification] = []
        self.connects: list[Connect] = []
        self.closes: list[CloseConnection] = []
        self.others: list[Action] = []

    def settle(self) -> None:
        """Sort the actions of the core."""
        for action in self.core.take():
            match action:
                case SendBytes(data=data):
                    self.written.append(self.codec.decode_command(data))
                case Emit(event=event):
                    self.events.append(event)
                case Connect():
                    self.connects.append(action)
                case CloseConnection():
                    self.closes.append(action)
                case _:
                    self.others.append(action)

    def say(self, *messages: msgspec.Struct) -> None:
        """Send these messages of the server."""
        for message in messages:
            self.core.received(self.codec.encode(message), self.now)
        self.settle()

    def heard(self) -> list[AnyCommand]:
        """The commands of the client since the last call."""
        self.settle()
        written, self.written = self.written, []
        return written

    def notified(self) -> list[Notification]:
        """The notifications of the app since the last call."""
        self.settle()
        events, self.events = self.events, []
        return events

    def seqs(self, dialog: bytes = DIALOG) -> list[int]:
        """The numbers of the events that the app got since the last call."""
        return [event.seq for event in self.notified() if isinstance(event, TimelineEvent) and event.dialog == dialog]

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and tick."""
        self.now += seconds
        self.core.tick(self.now)
        self.settle()

    def authenticate(self) -> None:
        """Connect and accept the token."""
        self.core.connected("token", self.now)
        (command,) = [one for one in self.heard() if isinstance(one, Authenticate)]
        self.say(Authenticated(command.id, ME, DEVICE, 0, HEARTBEAT_S, IN_FLIGHT_MAX, 65536))

    def sync(self, *, recovered: bool = True) -> Sync:
        """Connect up to the accepted sync; returns the sync of the client."""
        self.authenticate()
        (command,) = [one for one in self.heard() if isinstance(one, Sync)]
        self.say(Synced(command.id, recovered))
        return command

    def live(self, *messages: msgspec.Struct, position: str = "p1", recovered: bool = True) -> Sync:
        """Connect, catch up with these messages, and be live."""
        command = self.sync(recovered=recovered)
        self.say(*messages, CaughtUp(position))
        return command

    def cut(self, code: int | None = None) -> None:
        """End the connection."""
        self.core.disconnected(code, self.now)
        self.settle()

    def ack(self, command: AnyCommand, seq: int = 1) -> None:
        """Acknowledge a command."""
        n: int = getattr(command, "n", 0)
        dialog: bytes = getattr(command, "dialog", DIALOG)
        self.say(Acked(command.id, dialog, n, seq, 0, seq))
