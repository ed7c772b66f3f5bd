"""What this device believes of people, kept in its state: their pinned logs, and its own person's identity.

Each call that changes something is one commit. The own person is one of the people, with two differences:

- A log is believed when this device has the private keys of it. It takes these from the recovery key, or from an own
  device whose master key a person has compared; what else claims to be the own identity is held.
- The entries are kept: after a restore of the server's database, own devices give it back what it lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from protocol.canonical import CanonicalError, from_base64, to_base64
from protocol.device_log import LogError, LogState, fold
from protocol.limits import FORMER_IDENTITIES_MAX
from tchat.crypto.olm import KnownDevice, ToDevice
from tchat.crypto.own_identity import SECRET_BYTES, OwnIdentity
from tchat.crypto.pins import GivenLog, Judgement, PinnedLog, agree, devices_for, judge, verify
from tchat.crypto.recovery import RECOVERY_KEY_BYTES
from tchat.crypto.state import CryptoState, Step, Table

HANDED = "tchat.identity"
"""The type of the message by which an own device hands the private keys on."""


class _OwnRecord(msgspec.Struct, array_like=True):
    generation: int
    secret: bytes
    recovery_key: bytes

    def __repr__(self) -> str:
        return f"_OwnRecord({self.generation})"


class People:
    """The pins of a device. Logs are given in the order in which they were asked for."""

    def __init__(self, state: CryptoState, principal: bytes) -> None:
        self._state = state
        self.principal = principal
        """The own person."""

    def pin_of(self, principal: bytes) -> PinnedLog | None:
        """What is believed of this person; None before the first log."""
        data = self._state.read(Table.PINS, principal)
        return None if data is None else msgspec.msgpack.decode(data, type=PinnedLog)

    def newest_of(self, principal: bytes) -> tuple[int, int]:
        """Generation and length to ask the server to go on from: (0, 0) before the first log."""
        pin = self.pin_of(principal)
        return (0, 0) if pin is None else (pin.newest.generation, pin.newest.length)

    def take_log(self, principal: bytes, given: GivenLog) -> Judgement:
        """Judge what the server gives, and remember it; what `SHOWN` has for the verdict is for a person."""
        before = self.pin_of(principal)
        judgement = judge(principal, before, given)
        if judgement.pin is not None and judgement.pin != before:
            step = Step(self._state)
            pin = self._verified_if_ours(judgement.pin)
            if principal == self.principal and not pin.refused and pin.held is None:
                self._keep_entries(step, pin.log, given)
            self._keep(step, pin)
        return judgement

    def take_former(self, principal: bytes, entries: Sequence[bytes]) -> bool:
        """Believe the whole log of the identity before the oldest one that is known, which the latter has signed.

        False, and nothing is changed, if it is another one, or damaged.
        """
        pin = self.pin_of(principal)
        if pin is None or len(pin.former) >= FORMER_IDENTITIES_MAX:
            return False
        try:
            log = fold(principal, entries)
        except LogError:
            return False
        oldest = pin.logs[-1]
        if log.head != oldest.previous or log.generation >= oldest.generation:
            return False
        self._keep(Step(self._state), msgspec.structs.replace(pin, former=(*pin.former, log)))
        return True

    def devices_of(self, principal: bytes) -> list[KnownDevice]:
        """The devices that may be given keys; `HeldError` when nobody may be now."""
        return [
            KnownDevice(principal, device, public) for device, public in devices_for(self.pin_of(principal)).items()
        ]

    def writer_at(self, principal: bytes, device: bytes, generation: int, length: int) -> KnownDevice | None:
        """A device as the log had it then: what it wrote at that time is believed; None for any other device."""
        pin = self.pin_of(principal)
        public = None if pin is None else pin.keys_at(device, generation, length)
        return None if public is None else KnownDevice(principal, device, public)

    def verified(self, principal: bytes, master: bytes) -> bool:
        """A person has compared this master key; False, and nothing is changed, if another one is pinned."""
        pin = self.pin_of(principal)
        found = None if pin is None else verify(pin, master)
        if found is not None:
            self._keep(Step(self._state), found)
        return found is not None

    def agreed(self, principal: bytes) -> None:
        """A person takes the new identity that is held, without having compared it; nothing if none is."""
        pin = self.pin_of(principal)
        if pin is not None and pin.held is not None:
            self._keep(Step(self._state), agree(pin))

    @property
    def identity(self) -> OwnIdentity | None:
        """The private keys of the own person; None on a device that has none, or has those of another identity."""
        pin, identity = self.pin_of(self.principal), self.kept_identity
        return identity if pin is not None and identity is not None and identity.owns(pin.log) else None

    @property
    def recovery_key(self) -> bytes | None:
        """What the backup is sealed under; None on a device without the private keys."""
        record = self._own_record()
        return None if record is None else record.recovery_key

    def keep_identity(self, identity: OwnIdentity, recovery_key: bytes) -> bool:
        """Keep private keys that were made here, before the server gets their log, or that were recovered.

        Returns whether the log that the server gave is theirs.
        """
        step = Step(self._state)
        record = _OwnRecord(identity.generation, identity.secret, recovery_key)
        step.write(Table.IDENTITY, b"", msgspec.msgpack.encode(record))
        pin = self.pin_of(self.principal)
        ours = pin is not None and identity.owns(pin.newest)
        if pin is not None and ours:
            pin = verify(pin, identity.public.master)
        self._keep(step, pin)
        return ours

    def identity_to_hand(self) -> dict[str, object]:
        """The content of the message, of type HANDED, that gives a new own device the private keys.

        The device is in the log before, so a person has compared its keys.
        """
        record = self._own_record()
        assert record is not None, "only a device with the private keys hands them on"
        return {"secret": to_base64(record.secret), "recovery_key": to_base64(record.recovery_key)}

    def take_identity(self, message: ToDevice) -> bool:
        """Take the private keys that an own device hands on; False if they are not the verified identity's."""
        pin, sender = self.pin_of(self.principal), message.sender
        if pin is None or not pin.verified or pin.held is not None or sender.principal != self.principal:
            return False
        if pin.log.devices.get(sender.device) != sender.public or message.type != HANDED:
            return False
        try:
            secret = from_base64(message.content.get("secret"), SECRET_BYTES)
            recovery_key = from_base64(message.content.get("recovery_key"), RECOVERY_KEY_BYTES)
        except CanonicalError:
            return False
        identity = OwnIdentity.from_secret(self.principal, pin.log.generation, secret)
        return identity.owns(pin.log) and self.keep_identity(identity, recovery_key)

    def lost_entries(self, length: int) -> list[bytes]:
        """The entries of the own log that a server with so many of them has lost; none if this device lacks some."""
        pin = self.pin_of(self.principal)
        if pin is None:
            return []
        found = [self._state.read(Table.OWN_LOG, _row_of(pin.log, index)) for index in range(pin.log.length)]
        entries = [entry for entry in found if entry is not None]
        return entries[length:] if len(entries) == pin.log.length else []

    def _keep_entries(self, step: Step, log: LogState, given: GivenLog) -> None:
        for index, entry in enumerate(given.entries, log.length - len(given.entries)):
            step.write(Table.OWN_LOG, _row_of(log, index), entry)

    def _verified_if_ours(self, pin: PinnedLog) -> PinnedLog:
        identity = self.kept_identity
        if identity is None or not identity.owns(pin.newest):
            return pin
        return verify(pin, identity.public.master) or pin

    @property
    def kept_identity(self) -> OwnIdentity | None:
        """The private keys that are here, also when the server has another log, or none yet."""
        record = self._own_record()
        return None if record is None else OwnIdentity.from_secret(self.principal, record.generation, record.secret)

    def _own_record(self) -> _OwnRecord | None:
        data = self._state.read(Table.IDENTITY, b"")
        return None if data is None else msgspec.msgpack.decode(data, type=_OwnRecord)

    def _keep(self, step: Step, pin: PinnedLog | None) -> None:
        if pin is not None:
            step.write(Table.PINS, pin.log.principal, msgspec.msgpack.encode(pin))
        step.commit()


def _row_of(log: LogState, index: int) -> bytes:
    return log.generation.to_bytes(8, "big") + index.to_bytes(4, "big")
