"""Verifications of this device with others, over messages from device to device.

A safety number needs no messages: people compare it by themselves, and each says so on their own device.

Invariants:

- What is compared are the keys that were known when a verification began: those of the pinned logs; of an own device
  that no log lists yet, those that the server has.
- At most RUNNING_MAX verifications that this person asked for or accepted run, so strangers block none of these. One
  that has ended is forgotten.
- One request of each other person, and of each own device, waits for this person: a newer one takes its place. Own
  devices and other people have room for REQUESTS_MAX each; requests beyond are passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from protocol.canonical import encode_canonical
from protocol.ids import self_dialog_id
from tchat.crypto.compared import MessageType, Party, VerificationCancelledError
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.people import People
from tchat.crypto.qr import QrCode
from tchat.crypto.safety_number import safety_number
from tchat.crypto.verification import Phase, Verification, VerificationMessage, can_compare
from tchat.encryption.device_messages import DeviceMessages, ReceivedMessage
from tchat.encryption.handing_identity import HandingIdentity
from tchat.encryption.notices import VerificationStep

RUNNING_MAX = 10
REQUESTS_MAX = 100
"""So many requests wait for this person at most, of other people; and as many of own devices."""


@dataclass(slots=True)
class _Running:
    """A verification: with whom, where messages of it go, and the phase that its person knows."""

    verification: Verification
    principal: bytes
    dialog: bytes
    shown: Phase | None = None


class Verifying:
    """The verifications of a device. `wake` is called when its person acts."""

    def __init__(
        self,
        machine: CryptoMachine,
        people: People,
        messages: DeviceMessages,
        handing: HandingIdentity,
        now_ms: Callable[[], int],
        *,
        wake: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._people = people
        self._messages = messages
        self._now_ms = now_ms
        self._handing = handing
        self._wake = wake
        self._running: dict[str, _Running] = {}
        self._notices: list[VerificationStep] = []
        messages.handlers |= dict.fromkeys(MessageType, self._received)
        messages.undelivered = self._undelivered

    # what a person does

    def ask(self, principal: bytes, dialog: bytes | None = None) -> str | None:
        """Ask the devices of a person, by a dialog with them; own devices need none. None: there is nothing to compare.

        The answer names the verification in the notices that follow.
        """
        me, pin = self._party_of_this_device(), self._people.pin_of(principal)
        found = () if pin is None or pin.refused else pin.newest.devices
        they = [party for device in found if (party := self._party(principal, device)) and can_compare(me, party)]
        they = [party for party in they if party.device != me.device]
        if not they or len(self._running) - len(self._requests()) >= RUNNING_MAX:
            return None
        verification, messages = Verification.ask(me, they, self._now_ms())
        running = _Running(verification, principal, dialog or self_dialog_id(self._people.principal))
        self._running[verification.transaction] = running
        self._go_on(running, messages)
        self._wake()
        return verification.transaction

    def accept(self, transaction: str) -> None:
        """The person goes into a verification that was asked for."""
        self._does(transaction, lambda verification: verification.accept(self._now_ms()))

    def compare_symbols(self, transaction: str) -> None:
        """Show the symbols on both sides."""
        self._does(transaction, lambda verification: verification.start_sas(self._now_ms()))

    def scan(self, transaction: str, code: QrCode) -> None:
        """The person has scanned the code that the other device shows."""
        self._does(transaction, lambda verification: verification.scan(code, self._now_ms()))

    def confirm(self, transaction: str) -> None:
        """Both sides show the same; or the other device has taken the code of this one."""
        self._does(transaction, lambda verification: verification.confirm(self._now_ms()))

    def cancel(self, transaction: str) -> None:
        """End it; while symbols are compared it says that they differ."""
        self._does(transaction, lambda verification: verification.cancel())

    def number_with(self, principal: bytes) -> tuple[str, bytes] | None:
        """The safety number with a person, and the master key of theirs that is in it.

        None if this device does not know their identity, or is none of its own person's.
        """
        mine, pin = self._party_of_this_device().master, self._people.pin_of(principal)
        if mine is None or pin is None:
            return None
        master = pin.newest.master
        return safety_number((self._people.principal, mine), (principal, master)), master

    def same_number(self, principal: bytes, master: bytes) -> bool:
        """Both see the same number, with this key in it; False if the server shows another identity by now."""
        verified = self._people.verified(principal, master)
        if verified:
            self._wake()
        return verified

    # what the server brings

    def go_on(self) -> None:
        """Time has passed."""
        for running in list(self._running.values()):
            self._go_on(running, running.verification.tick(self._now_ms()))

    def take_notices(self) -> list[VerificationStep]:
        """What the person is to be shown, since the last call."""
        taken, self._notices = self._notices, []
        return taken

    def _does(self, transaction: str, step: Callable[[Verification], list[VerificationMessage]]) -> None:
        running = self._running.get(transaction)
        if running is not None:
            self._go_on(running, step(running.verification))
            self._wake()

    def _received(self, message: ReceivedMessage) -> None:
        kind, transaction = MessageType(message.type), message.content.get("transaction_id")
        running = self._running.get(transaction) if isinstance(transaction, str) else None
        content, device = encode_canonical(message.content), message.sender.device
        if running is not None and running.principal == message.sender.principal:
            self._go_on(running, running.verification.receive(device, kind, content, self._now_ms()))
        elif running is None and kind is MessageType.REQUEST:
            self._asked(message, content)

    def _undelivered(self, device: bytes) -> None:
        for running in list(self._running.values()):
            if device in running.verification.devices:
                self._go_on(running, running.verification.cancel())

    def _asked(self, message: ReceivedMessage, content: bytes) -> None:
        me, they = self._party_of_this_device(), self._party(message.sender.principal, message.sender.device)
        if they is None or not can_compare(me, they):
            return
        own = they.principal == me.principal
        rivals = [one for one in self._requests() if (one.principal == me.principal) == own]
        if own:
            earlier = [one for one in rivals if they.device in one.verification.devices]
        else:
            earlier = [one for one in rivals if one.principal == they.principal]
        if len(rivals) - len(earlier) >= REQUESTS_MAX:
            return
        try:
            verification = Verification.asked(me, they, content, self._now_ms())
        except VerificationCancelledError:
            return  # it is old, or no request
        for one in earlier:
            one.verification.cancel()
            self._go_on(one, [])
        running = _Running(verification, they.principal, message.dialog)
        self._running[verification.transaction] = running
        self._go_on(running, [])

    def _requests(self) -> list[_Running]:
        """What waits for this person to accept it."""
        return [one for one in self._running.values() if one.verification.phase is Phase.ASKED]

    def _go_on(self, running: _Running, messages: list[VerificationMessage]) -> None:
        """Send what a step has made, and do what follows from its result."""
        verification = running.verification
        for message in messages:
            self._messages.send(running.dialog, message.device, message.kind, message.content)
        if verification.phase is running.shown:
            return
        running.shown = verification.phase
        believed = verification.phase is not Phase.DONE or self._believe(running)
        self._notices.append(
            VerificationStep(
                verification.transaction,
                running.principal,
                verification.phase if believed else Phase.CANCELLED,
                verification.shown,
                verification.code,
                verification.cancelled,
            )
        )
        if verification.phase in (Phase.DONE, Phase.CANCELLED):
            del self._running[verification.transaction]

    def _believe(self, running: _Running) -> bool:
        """Remember what was compared; False if the server shows another identity of this person by now."""
        compared = running.verification.compared
        assert compared is not None, "it is done"
        if compared.master is not None and not self._people.verified(running.principal, compared.master):
            return False
        if running.principal == self._people.principal and self._people.identity is not None:
            for device in running.verification.devices:
                known = self._messages.find_device(running.principal, device)
                if known is not None and known.public.ed25519 == compared.device and not self._is_listed(device):
                    self._handing.hand_to(known)
        return True

    def _is_listed(self, device: bytes) -> bool:
        pin = self._people.pin_of(self._people.principal)
        return pin is not None and device in pin.log.devices

    def _party_of_this_device(self) -> Party:
        """This device; it stands for the identity only if its person has verified that, or it has its keys."""
        machine, pin = self._machine, self._people.pin_of(self._people.principal)
        master = pin.log.master if pin is not None and pin.verified and pin.held is None else None
        return Party(machine.principal, machine.device, machine.public.ed25519, master)

    def _party(self, principal: bytes, device: bytes) -> Party | None:
        """Another device, and the identity that its person's log says; of a device outside of the log, none."""
        known, pin = self._messages.find_device(principal, device), self._people.pin_of(principal)
        if known is None:
            return None
        listed = pin is not None and device in pin.newest.devices
        return Party(principal, device, known.public.ed25519, pin.newest.master if pin and listed else None)
