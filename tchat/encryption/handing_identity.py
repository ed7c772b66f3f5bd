"""The private keys of the identity, handed from one own device to another.

Invariants:

- They go to a device only when its person has compared that device's key here, in a channel to exactly that key.
- They are taken only from a device in the log that this one has verified (`People.take_identity`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from protocol.command_rules import Command
from protocol.ids import self_dialog_id
from protocol.key_commands import ClaimKeys
from protocol.replies import Failed, Reply
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.olm import KnownDevice
from tchat.crypto.people import HANDED, People
from tchat.encryption.device_messages import ENCRYPTED, DeviceMessages, ReceivedMessage

CLAIMS_MAX = 3
"""So often a key of an own device is claimed to hand the identity to it."""


@dataclass(slots=True)
class _Handing:
    """An own device that gets the identity."""

    known: KnownDevice
    claims: int = 0


class HandingIdentity:
    """Gives and takes the identity; `taken` is called when it has come.

    `has_channel` says whether a device can be written to; if not, it has a key of it claimed in the dialog.
    """

    def __init__(
        self,
        machine: CryptoMachine,
        people: People,
        messages: DeviceMessages,
        *,
        has_channel: Callable[[bytes, KnownDevice], bool],
        taken: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._people = people
        self._messages = messages
        self._has_channel = has_channel
        self._taken = taken
        self._handing: dict[bytes, _Handing] = {}
        messages.handlers[HANDED] = self._received

    def hand_to(self, known: KnownDevice) -> None:
        """Give an own device the identity; its person has compared this key of it."""
        self._handing[known.device] = _Handing(known)

    def go_on(self) -> None:
        """Channels may have been opened."""
        for handing in list(self._handing.values()):
            self._hand(handing)

    def answered(self, command: Command, reply: Reply) -> None:
        """The answer to a command of this device."""
        if isinstance(command, ClaimKeys) and not (isinstance(reply, Failed) and reply.temporary):
            for handing in self._handing.values():
                handing.claims += handing.known.device in command.devices

    def _hand(self, handing: _Handing) -> None:
        known, dialog = handing.known, self_dialog_id(self._people.principal)
        if handing.claims >= CLAIMS_MAX or self._people.identity is None:
            del self._handing[known.device]
        elif self._has_channel(dialog, known):
            body = self._machine.write_to(known, HANDED, self._people.identity_to_hand())
            self._messages.send(dialog, known.device, ENCRYPTED, body)
            del self._handing[known.device]

    def _received(self, message: ReceivedMessage) -> None:
        if message.by_channel is not None and self._people.take_identity(message.by_channel):
            self._taken()
