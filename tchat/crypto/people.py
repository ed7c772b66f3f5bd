"""What this device believes of people, kept in its state: their pinned logs, and its own person's identity.

Each call that changes something is one commit. The person's decision about somebody's identity (`trust.py`) is kept
beside the pin: own devices tell each other, and it may come before the log that it is about.

The own person is one of the people, with two differences:

- A log is believed when this device has the private keys of it. It takes these from the recovery key, or from an own
  device whose master key a person has compared; what else claims to be the own identity is held.
- The entries are kept: after a restore of the server's database, own devices give it back what it lost.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from protocol.canonical import CanonicalError, from_base64, to_base64
from protocol.device_log import LogError, LogState, fold
from protocol.limits import FORMER_IDENTITIES_MAX
from protocol.public_keys import DevicePublic
from tchat.crypto.olm import KnownDevice, ToDevice
from tchat.crypto.own_identity import SECRET_BYTES, OwnIdentity
from tchat.crypto.pins import (
    GivenLog,
    HeldError,
    Hold,
    Judgement,
    LogVerdict,
    PinnedLog,
    agree,
    devices_for,
    judge,
    verify,
)
from tchat.crypto.recovery import RECOVERY_KEY_BYTES
from tchat.crypto.state import CryptoState, Step, Table
from tchat.crypto.trust import Trust, follow

HANDED = "tchat.identity"
"""The type of the message by which an own device hands the private keys on."""


class _OwnRecord(msgspec.Struct, array_like=True):
    generation: int
    secret: bytes
    recovery_key: bytes

    def __repr__(self) -> str:
        return f"_OwnRecord({self.generation})"


class _KeptTrust(msgspec.Struct, array_like=True, frozen=True):
    """A decision, and the own generation whose backup has it; 0 for none."""

    trust: Trust
    backed_up: int = 0


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class People:
    """The pins of a device. Logs are given in the order in which they were asked for."""

    def __init__(self, state: CryptoState, principal: bytes, now_ms: Callable[[], int] = _wall_ms) -> None:
        self._state = state
        self._now_ms = now_ms
        self.principal = principal
        """The own person."""
        self.changes = 0
        """Grows when the pin of somebody may be another one, or a decision about them."""
        self.decisions = 0
        """Grows with each decision about somebody's identity, here or on an own device, and with the own identity."""

    def pin_of(self, principal: bytes) -> PinnedLog | None:
        """What is believed of this person; None before the first log."""
        data = self._state.read(Table.PINS, principal)
        return None if data is None else msgspec.msgpack.decode(data, type=PinnedLog)

    def newest_of(self, principal: bytes) -> tuple[int, int]:
        """Generation and length to ask the server to go on from: (0, 0) before the first log."""
        pin = self.pin_of(principal)
        return (0, 0) if pin is None else (pin.newest.generation, pin.newest.length)

    def take_log(self, principal: bytes, given: GivenLog) -> Judgement:
        """Judge what the server gives, and remember it; a verdict with a sentence is shown to the person."""
        before = self.pin_of(principal)
        judgement = self._followed(principal, judge(principal, before, given))
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
        pin, trust = self.pin_of(principal), self.trust_of(principal)
        devices = devices_for(pin)
        if self.is_held(principal):
            raise HeldError(Hold.IDENTITY_CHANGED)
        if pin is not None and trust is not None and trust.is_ahead_of(pin):
            raise HeldError(Hold.BEHIND)
        return [KnownDevice(principal, device, public) for device, public in devices.items()]

    def is_held(self, principal: bytes) -> bool:
        """Whether the server shows another identity than the one that its person has verified, here or elsewhere."""
        pin, trust = self.pin_of(principal), self.trust_of(principal)
        return pin is not None and (pin.held is not None or (trust is not None and trust.doubts(pin)))

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
            self._keep(self._decide(found, verified=True), found)
        return found is not None

    def agreed(self, principal: bytes) -> None:
        """A person takes the new identity that is held, without having compared it; nothing if none is."""
        pin = self.pin_of(principal)
        if pin is not None and self.is_held(principal):
            pin = pin if pin.held is None else agree(pin)
            self._keep(self._decide(pin, verified=False), pin)

    def trust_of(self, principal: bytes) -> Trust | None:
        """The own person's last decision about somebody's identity, as far as this device knows."""
        kept = self._kept_trust(principal)
        return None if kept is None else kept.trust

    def to_back_up(self, generation: int) -> dict[bytes, Trust]:
        """The decisions, by whom they are about, that the backup of this generation of the own identity may lack."""
        found = ((each, self._kept_trust(each)) for each in self._state.keys(Table.TRUST, b""))
        return {each: kept.trust for each, kept in found if kept is not None and kept.backed_up != generation}

    def is_backed_up(self, principal: bytes, trust: Trust, generation: int) -> None:
        """The backup of this generation has this decision, unless a newer one was made meanwhile."""
        if self.trust_of(principal) == trust:
            step = Step(self._state)
            step.write(Table.TRUST, principal, msgspec.msgpack.encode(_KeptTrust(trust, generation)))
            step.commit()

    def take_trust(self, principal: bytes, trust: Trust, generation: int) -> None:
        """Take a decision that the backup of this own generation has, unless a newer one is known here."""
        before = self._kept_trust(principal)
        if before == _KeptTrust(trust, generation):
            return
        older = before is not None and trust.at_ms < before.trust.at_ms
        step, pin = Step(self._state), self.pin_of(principal)
        kept = _KeptTrust(before.trust) if before is not None and older else _KeptTrust(trust, generation)
        step.write(Table.TRUST, principal, msgspec.msgpack.encode(kept))
        self._keep(step, None if older or pin is None else follow(pin, trust))
        self.decisions += 1

    def is_listed(self, device: bytes, public: DevicePublic) -> bool:
        """Whether the own log that is believed has this device, with these keys."""
        pin = self.pin_of(self.principal)
        return pin is not None and pin.held is None and pin.log.devices.get(device) == public

    def was_removed(self, public: DevicePublic) -> bool:
        """Whether the own log that is believed had a device with these keys, and has it no more."""
        pin = self.pin_of(self.principal)
        if pin is None or pin.held is not None or pin.refused:
            return False
        return any(one.keys == public and one.until is not None for one in pin.log.listed)

    def forget_identity(self) -> None:
        """Drop the private keys of the own person: this device is none of theirs any more."""
        step = Step(self._state)
        step.write(Table.IDENTITY, b"", None)
        step.commit()
        self.decisions += 1

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

    @property
    def backup_keys(self) -> tuple[OwnIdentity, bytes] | None:
        """The identity whose backup this device can read and add to, and the recovery key that it is sealed under."""
        identity, key = self.identity, self.recovery_key
        return None if identity is None or key is None else (identity, key)

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
        self.decisions += 1
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

    def _followed(self, principal: bytes, judgement: Judgement) -> Judgement:
        """A judgement, after what the own person has decided elsewhere: what they compared there is no news here."""
        pin, trust = judgement.pin, self.trust_of(principal)
        if pin is None or trust is None:
            return judgement
        verdict, followed = judgement.verdict, follow(pin, trust)
        if verdict in (LogVerdict.CHANGED, LogVerdict.HELD) and followed.held is None and trust.is_about(followed):
            verdict = LogVerdict.GROWN
        elif verdict in (LogVerdict.FIRST, LogVerdict.CHANGED) and trust.is_ahead_of(followed):
            verdict = LogVerdict.SHORTER
        elif verdict in (LogVerdict.FIRST, LogVerdict.CHANGED) and trust.doubts(followed):
            verdict = LogVerdict.HELD
        return replace(judgement, verdict=verdict, pin=followed)

    def _kept_trust(self, principal: bytes) -> _KeptTrust | None:
        data = self._state.read(Table.TRUST, principal)
        return None if data is None else msgspec.msgpack.decode(data, type=_KeptTrust)

    def _decide(self, pin: PinnedLog, *, verified: bool) -> Step:
        """A step with the newest decision about the identity that is pinned; about the own one there is none."""
        step, principal = Step(self._state), pin.log.principal
        if principal != self.principal:
            known = self.trust_of(principal)
            at_ms = max(self._now_ms(), 0 if known is None else known.at_ms + 1)
            trust = Trust(at_ms, pin.log.generation, pin.log.master, verified)
            step.write(Table.TRUST, principal, msgspec.msgpack.encode(_KeptTrust(trust)))
            self.decisions += 1
        return step

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
            self.changes += 1
        step.commit()


def _row_of(log: LogState, index: int) -> bytes:
    return log.generation.to_bytes(8, "big") + index.to_bytes(4, "big")
