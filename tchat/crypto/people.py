"""What this device believes of people, kept in its state: their pinned logs, and its own person's identity.

Each call that changes something is one commit. The own person is one of the people, with one difference: the log is
believed because this device has the private keys of it, or was verified by a device that has them.
"""

from __future__ import annotations

import msgspec

from protocol.device_log import LogState
from tchat.crypto.olm import KnownDevice
from tchat.crypto.own_identity import OwnIdentity
from tchat.crypto.pins import GivenLog, Judgement, PinnedLog, agree, devices_for, judge, verify
from tchat.crypto.state import CryptoState, Step, Table


class _OwnRecord(msgspec.Struct, array_like=True):
    generation: int
    secret: bytes


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
        pin = self.pin_of(principal)
        judgement = judge(principal, pin, given)
        if judgement.pin is not None and judgement.pin != pin:
            self._keep(judgement.pin)
        return judgement

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
            self._keep(found)
        return found is not None

    def agreed(self, principal: bytes) -> None:
        """A person takes the new identity that is held, without having compared it; nothing if none is."""
        pin = self.pin_of(principal)
        if pin is not None and pin.held is not None:
            self._keep(agree(pin))

    @property
    def identity(self) -> OwnIdentity | None:
        """The private keys of the own person; None on a device that has not been given them."""
        data = self._state.read(Table.IDENTITY, b"")
        if data is None:
            return None
        record = msgspec.msgpack.decode(data, type=_OwnRecord)
        return OwnIdentity.from_secret(self.principal, record.generation, record.secret)

    def adopt(self, identity: OwnIdentity, log: LogState) -> None:
        """Have the own person's private keys: made here, recovered, or given by an own device; `log` is theirs."""
        assert identity.owns(log), "an identity is adopted with its own log"
        record = msgspec.msgpack.encode(_OwnRecord(identity.generation, identity.secret))
        step = Step(self._state)
        step.write(Table.IDENTITY, b"", record)
        pin = self.pin_of(self.principal)
        before = pin.log if pin is not None and pin.log.generation < log.generation else None
        step.write(Table.PINS, self.principal, msgspec.msgpack.encode(PinnedLog(log, verified=True, before=before)))
        step.commit()

    def _keep(self, pin: PinnedLog) -> None:
        step = Step(self._state)
        step.write(Table.PINS, pin.log.principal, msgspec.msgpack.encode(pin))
        step.commit()
