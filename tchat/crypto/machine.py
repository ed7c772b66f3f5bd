"""The encryption of one device, without I/O: each call is one commit of the state, or part of one of its caller.

What a call returns may leave the process after that commit: the ratchet that made it is durable then. The caller
decides by device logs and rosters which devices may read (`recipients`) and who wrote what arrives (`KnownDevice`);
nothing here asks a server. Time is given in milliseconds since 1970.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from protocol.cross_signing import KeysRefusedError
from tchat.crypto import envelope, inbound, key_claims, megolm, olm
from tchat.crypto.envelope import Opened, Place, Received, Sealed
from tchat.crypto.errors import OpenError, OtherDeviceError
from tchat.crypto.key_claims import NumberedClaim
from tchat.crypto.megolm import Chunk, Removals, Shared
from tchat.crypto.olm import KnownDevice, ToDevice
from tchat.crypto.own_keys import OwnKeys, Upload
from tchat.crypto.recovery import BackedUpSession
from tchat.crypto.state import CryptoState, OutboxRow, Step


@dataclass(frozen=True, slots=True)
class KeysReceived:
    """A device has handed the keys of its session to this one: what waited for them can be opened."""

    sender: KnownDevice
    session: bytes
    opened: bool = False
    """Whether they came by a channel that was new here: a one-time key of this device was used."""


class CryptoMachine:
    """Everything that one device encrypts and decrypts. One process at a time uses a state."""

    def __init__(self, state: CryptoState, principal: bytes, device: bytes, generation: int) -> None:
        """Read the keys of the state, or make them in a new state, or under a higher `generation`.

        `OtherDeviceError` if the state has keys of another device, or of a higher generation.
        """
        self._state = state
        step = Step(state)
        own = OwnKeys.read(step)
        if own is not None and ((own.principal, own.device) != (principal, device) or own.generation > generation):
            raise OtherDeviceError
        self.principal, self.device, self.generation = principal, device, generation
        if own is None or own.generation < generation:
            own = self._new_keys(generation)
        self.device_keys = own.device_keys
        """Matrix' object of the keys of this device, signed by it."""
        self.public = own.public

    def renew(self, generation: int) -> None:
        """Make new keys, under a higher generation; what was received stays readable."""
        own = self._new_keys(generation)
        self.generation, self.device_keys, self.public = generation, own.device_keys, own.public

    def sign(self, message: bytes) -> bytes:
        """The Ed25519 signature of this device, 64 bytes."""
        return self._own(Step(self._state)).sign(message)

    def put_out(self, row: OutboxRow) -> None:
        """Replace a command of the outbox, by one that is signed; durable on return."""
        self._state.commit({}, [row])

    def prepare_upload(self, held: int, now_ms: int, *, fallback_used: bool) -> Upload:
        """The keys to upload when the server has `held` one-time keys; the same again until `uploaded` is called.

        Receive what waits for this device first: it may be written with a fallback key that this replaces.
        """
        step = Step(self._state)
        upload = self._own(step).prepare_upload(held, now_ms, fallback_used=fallback_used)
        step.commit()
        return upload

    def uploaded(self, upload: Upload) -> None:
        """The server has these keys."""
        step = Step(self._state)
        self._own(step).uploaded(upload)
        step.commit()

    def forget_offered(self) -> None:
        """Offer no key again that the server may have given out before it lost that."""
        step = Step(self._state)
        self._own(step).forget_offered()
        step.commit()

    def to_claim(self, devices: Iterable[KnownDevice], now_ms: int) -> list[KnownDevice]:
        """The devices of which a one-time key is needed: nothing can be written to them, or what they write is lost."""
        step = Step(self._state)
        others = (known for known in devices if known.device != self.device)
        return [known for known in others if not olm.has_channel(step, known) or olm.is_broken(step, known, now_ms)]

    def claim(self, dialog: bytes, devices: Sequence[KnownDevice], at_least: int = 1) -> NumberedClaim:
        """Number a claim of one-time keys, `at_least` that number; the same as before while it is not ended."""
        step = Step(self._state)
        claim = key_claims.begin(step, dialog, devices, at_least)
        step.commit()
        return claim

    def claim_under_way(self) -> NumberedClaim | None:
        """The claim whose answer did not come, or was not kept: it is sent again as it is."""
        return key_claims.under_way(Step(self._state))

    def open_channels(
        self, claimed: Sequence[tuple[KnownDevice, bytes]], now_ms: int
    ) -> list[bytes | KeysRefusedError | None]:
        """Open a channel with each key that was claimed; in order, a message to send to the device, or why it failed.

        Only a device whose channel was broken is sent a message: it brings the new session. The claim ends with it: a
        key opens one channel only.
        """
        step = Step(self._state)
        own = self._own(step)
        outcomes: list[bytes | KeysRefusedError | None] = []
        for known, one_time_key in claimed:
            try:
                outcomes.append(olm.open_channel(step, own, known, one_time_key, now_ms))
            except KeysRefusedError as error:
                outcomes.append(error)
        key_claims.end(step)
        step.commit()
        return outcomes

    def write_to(self, known: KnownDevice, kind: str, content: dict[str, object]) -> bytes:
        """Encrypt a message to one device; `NoChannelError` without a channel."""
        step = Step(self._state)
        data = olm.encrypt(step, self._own(step), known, kind, content)
        step.commit()
        return data

    def receive(self, messages: Sequence[tuple[KnownDevice, bytes]]) -> list[KeysReceived | ToDevice | OpenError]:
        """Open what devices wrote to this one, in order. On return all of it can be confirmed, what failed, too."""
        step = Step(self._state)
        own = self._own(step)
        outcomes: list[KeysReceived | ToDevice | OpenError] = []
        for sender, data in messages:
            try:
                message = olm.decrypt(step, own, sender, data)
                outcomes.append(_take(step, message))
            except OpenError as error:
                outcomes.append(error)
        step.commit()
        return outcomes

    def share(
        self,
        dialog: bytes,
        recipients: Sequence[KnownDevice],
        *,
        keys_seq: int,
        view: bytes,
        now_ms: int,
        removals: Mapping[bytes, Removals] | None = None,
    ) -> Shared:
        """Hand the dialog's session to devices that lack it, up to a hundred in one call; see `Shared`.

        `recipients` are all devices that may read at this `keys_seq`, `removals` those of the logs of their people.
        Raises `TooManySharesError`.
        """
        step = Step(self._state)
        own = self._own(step)
        shared = megolm.share(
            step, own, dialog, recipients, keys_seq=keys_seq, view=view, now_ms=now_ms, removals=removals or {}
        )
        step.commit()
        return shared

    def was_handed(self, session: bytes, devices: Collection[bytes]) -> bool:
        """Whether one of these devices has, or may have, got a slice of this session of this device."""
        return megolm.was_handed(Step(self._state), session, devices)

    def chunks_of(self, share: bytes) -> list[Chunk]:
        """What must be uploaded before a message that names this share; none once it is live."""
        return list(megolm.chunks_of(self._state, share))

    def seal(
        self, place: Place, content: bytes, *, view: bytes, now_ms: int, command: Callable[[Sealed], OutboxRow]
    ) -> Sealed:
        """Seal what this device writes; the row that `command` makes of it is in the outbox on return.

        Raises `NotSharedError` unless all who may read have the session; `ValueError` beyond
        SEALED_CONTENT_BYTES_MAX.
        """
        step = Step(self._state)
        sealed = envelope.seal(step, self._own(step), place, content, view=view, now_ms=now_ms)
        step.commit([command(sealed)])
        return sealed

    def acked(self, dialog: bytes, n: int, share: bytes | None) -> None:
        """The server acked a sealed event of this device, whose header named this share."""
        step = Step(self._state)
        envelope.acked(step, dialog, n)
        if share is not None:
            megolm.share_is_live(step, dialog, share)
        step.commit()

    def open(self, received: Sequence[Received]) -> list[Opened | OpenError]:
        """Open sealed events, in order."""
        step = Step(self._state)
        outcomes: list[Opened | OpenError] = []
        for one in received:
            try:
                outcomes.append(envelope.open_sealed(step, one))
            except OpenError as error:
                outcomes.append(error)
        step.commit()
        return outcomes

    def franking_key(self, dialog: bytes, seq: int) -> bytes | None:
        """What proves the content of an event that this device has opened, also after it was erased."""
        return envelope.franking_key(Step(self._state), dialog, seq)

    def back_up(self, session: bytes, device: bytes, generation: int) -> BackedUpSession | None:
        """A session of a device, for the backup of this generation of the identity; None if that has it."""
        return inbound.back_up(Step(self._state), session, device, generation)

    def note_backed_up(self, generation: int, sessions: Mapping[bytes, int]) -> None:
        """The backup of this generation has these sessions, by their keys in `Table.INBOUND`, from these indices on."""
        step = Step(self._state)
        inbound.note_backed_up(step, generation, sessions)
        step.commit()

    def restore(self, sessions: Sequence[BackedUpSession]) -> list[OpenError]:
        """Keep the sessions of this person's own backup; which were refused, because they contradict those here."""
        step = Step(self._state)
        refused = []
        for found in sessions:
            try:
                inbound.restore(step, found)
            except OpenError as error:
                refused.append(error)
        step.commit()
        return refused

    def forget_shares(self, kept: Collection[bytes]) -> bool:
        """Give up the shares that await their ack in other dialogs than these; whether there were any."""
        step = Step(self._state)
        found = megolm.forget_shares(step, kept)
        step.commit()
        return found

    def forget_dialog(self, dialog: bytes) -> None:
        """This device writes nothing more in the dialog; what it received stays readable."""
        step = Step(self._state)
        megolm.forget_dialog(step, dialog)
        step.commit()

    def _new_keys(self, generation: int) -> OwnKeys:
        step = Step(self._state)
        own = OwnKeys.create(step, self.principal, self.device, generation)
        step.commit()
        return own

    def _own(self, step: Step) -> OwnKeys:
        own = OwnKeys.read(step)
        assert own is not None, "made by __init__"
        return own


def _take(step: Step, message: ToDevice) -> KeysReceived | ToDevice:
    """Do what the message asks of the machine itself."""
    if message.replaces:
        megolm.hand_again(step, message.sender)
    if message.type == megolm.ROOM_KEY:
        return KeysReceived(message.sender, inbound.receive_room_key(step, message), message.opened)
    return message
