"""Messages from device to device, outside of dialogs: what arrives is taken in order, and then confirmed.

Invariants:

- A message is confirmed when it was taken, or when its sender is unknown: a device that its person's log does not name
  and that, if it is an own one, has no keys at the server either. Both are read anew before a message is given up.
- One message leaves at a time, with the same id until it is answered: the server stores it once.
- While OUTGOING_MAX wait to leave, nothing more is taken.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from protocol.canonical import CanonicalError, decode_canonical, encode_canonical
from protocol.command_rules import Command
from protocol.device_commands import ConfirmToDevice, DeviceMessage, SendToDevice
from protocol.events import FromDevice
from protocol.ids import new_id
from protocol.replies import Failed, Reply
from tchat.crypto.errors import OpenError
from tchat.crypto.machine import CryptoMachine, KeysReceived
from tchat.crypto.olm import KnownDevice, ToDevice
from tchat.crypto.people import People
from tchat.encryption.device_logs import DeviceLogs

ENCRYPTED = "m.room.encrypted"
INCOMING_MAX = 500
OUTGOING_MAX = 100


class _Written(msgspec.Struct, frozen=True):
    type: str
    content: dict[str, object]


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message that was taken: from whom, in which dialog to answer; `by_channel` if it came by an Olm channel."""

    dialog: bytes
    sender: KnownDevice
    type: str
    content: dict[str, object]
    by_channel: ToDevice | None = None


class DeviceMessages:
    """The messages of a device, in both directions. What arrives goes to the handler of its type, if there is one."""

    def __init__(
        self, machine: CryptoMachine, people: People, logs: DeviceLogs, key_was_used: Callable[[], None]
    ) -> None:
        self._machine = machine
        self._people = people
        self._logs = logs
        self._key_was_used = key_was_used
        self._incoming: deque[FromDevice] = deque()
        self._looked_up = 0
        """The number of the message for which logs were asked for."""
        self._recent: deque[bytes] = deque(maxlen=INCOMING_MAX)
        """Hashes of what was taken last: what was not confirmed before a cut comes again."""
        self._taken = self._confirmed = 0
        self._outgoing: deque[SendToDevice] = deque()
        self._under_way: set[type[Command]] = set()
        self.handlers: dict[str, Callable[[ReceivedMessage], None]] = {}
        """By type of a message."""
        self.undelivered: Callable[[bytes], None] = lambda _device: None
        """Called with a device to which the server took no message."""

    def received(self, message: FromDevice) -> None:
        """A message has come; beyond INCOMING_MAX it comes again with the next connection."""
        if len(self._incoming) < INCOMING_MAX:
            self._incoming.append(message)

    def take(self) -> None:
        """Handle what can be taken now, in order."""
        while self._incoming and len(self._outgoing) < OUTGOING_MAX:
            message = self._incoming[0]
            sender = self.find_device(message.author, message.device)
            if sender is None and self._looked_up != message.number:
                self._looked_up = message.number
                self._logs.need(message.dialog, message.author)
                return
            if sender is None and self._logs.awaits(message.dialog):
                return
            self._incoming.popleft()
            self._taken = message.number
            found = None if sender is None or self._is_repeated(message) else self._read(sender, message)
            if found is not None and (handler := self.handlers.get(found.type)) is not None:
                handler(found)

    def send(self, dialog: bytes, device: bytes, kind: str, content: bytes) -> None:
        """Have a message leave: canonical JSON of its content."""
        body = encode_canonical({"type": kind, "content": decode_canonical(content)})
        self._outgoing.append(SendToDevice(0, new_id(), dialog, [DeviceMessage(device, body)]))

    def tell(self, dialog: bytes, device: bytes, content: bytes, kind: str = ENCRYPTED) -> None:
        """Have a message leave that may be lost: nothing if much waits to leave."""
        if len(self._outgoing) < OUTGOING_MAX:
            self.send(dialog, device, kind, content)

    def find_device(self, principal: bytes, device: bytes) -> KnownDevice | None:
        """A device as its person's log has it now, or an own one as the server has its keys: those are not believed."""
        pin = self._people.pin_of(principal)
        public = None if pin is None or pin.refused else pin.newest.devices.get(device)
        if public is None and principal == self._people.principal:
            public = self._logs.own_keys.get(device)
        return None if public is None else KnownDevice(principal, device, public)

    def due(self) -> list[Command]:
        """The commands to send now, each once."""
        commands: list[Command] = []
        if self._outgoing and SendToDevice not in self._under_way:
            commands.append(self._outgoing[0])
        if self._taken > self._confirmed and ConfirmToDevice not in self._under_way:
            commands.append(ConfirmToDevice(0, self._taken))
        self._under_way.update(type(command) for command in commands)
        return commands

    def answered(self, command: Command, reply: Reply) -> None:
        """The answer to a command."""
        self._under_way.discard(type(command))
        if isinstance(reply, Failed) and reply.temporary:
            return
        if isinstance(command, ConfirmToDevice):
            self._confirmed = max(self._confirmed, command.number)
        elif isinstance(command, SendToDevice):
            self._outgoing.popleft()
            if isinstance(reply, Failed):
                for each in command.messages:
                    self.undelivered(each.device)

    def disconnected(self) -> None:
        """What is not confirmed comes again, and what was not answered leaves again."""
        self._incoming.clear()
        self._under_way.clear()
        self._looked_up = self._taken = self._confirmed = 0

    def _is_repeated(self, message: FromDevice) -> bool:
        digest = hashlib.sha256(message.author + message.device + message.body).digest()
        if digest in self._recent:
            return True
        self._recent.append(digest)
        return False

    def _read(self, sender: KnownDevice, message: FromDevice) -> ReceivedMessage | None:
        try:
            body = msgspec.convert(decode_canonical(message.body), _Written)
        except (CanonicalError, msgspec.ValidationError):
            return None
        if body.type != ENCRYPTED:
            return ReceivedMessage(message.dialog, sender, body.type, body.content)
        pin = self._people.pin_of(sender.principal)
        if pin is None or sender.device not in pin.newest.devices:
            return None
        (outcome,) = self._machine.receive([(sender, encode_canonical(body.content))])
        if isinstance(outcome, OpenError):
            return None
        if outcome.opened:
            self._key_was_used()
        if isinstance(outcome, KeysReceived):
            return None
        return ReceivedMessage(message.dialog, sender, outcome.type, outcome.content, outcome)
