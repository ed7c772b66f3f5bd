"""Devices of people in memory: what their tests need of a server, which hands keys and messages over as it is told."""

from __future__ import annotations

from dataclasses import dataclass, field

from protocol.bodies import Posted, tag_of
from protocol.canonical import decode_canonical, encode_canonical, to_base64
from protocol.cross_signing import KeysRefusedError
from protocol.ids import new_id
from tchat.crypto.envelope import Opened, Place, Received, Sealed
from tchat.crypto.errors import OpenError
from tchat.crypto.machine import CryptoMachine, KeysReceived
from tchat.crypto.olm import KnownDevice, ToDevice
from tchat.crypto.own_keys import ONE_TIME_KEYS
from tchat.crypto.state import CryptoState, MemoryState, OutboxRow, Step, Table

NOW_MS = 1_700_000_000_000
VIEW = bytes(range(32))
POSTED = tag_of(Posted)


@dataclass
class Phone:
    """A device with its machine, and the keys that the server holds for it."""

    machine: CryptoMachine
    state: CryptoState
    known: KnownDevice
    keys: list[bytes] = field(default_factory=list)
    seqs: int = 0
    """How many numbers the server gave to what this device wrote."""

    def upload(self) -> None:
        """Give the server a few one-time keys."""
        upload = self.machine.prepare_upload(ONE_TIME_KEYS - 8, NOW_MS, fallback_used=False)
        self.keys += upload.one_time_keys.values()
        self.machine.uploaded(upload)

    def connect(self, *others: Phone, now_ms: int = NOW_MS) -> list[bytes | KeysRefusedError | None]:
        """Open the channels that are missing or broken, with one-time keys of the others."""
        by_device = {other.known: other for other in others}
        wanted = self.machine.to_claim([other.known for other in others], now_ms)
        return self.machine.open_channels([(known, by_device[known].keys.pop()) for known in wanted], now_ms)

    def share(
        self, dialog: bytes, *others: Phone, keys_seq: int = 1, view: bytes = VIEW, now_ms: int = NOW_MS
    ) -> bytes | None:
        """Make slices until all have the session; the share, unless it is live already."""
        recipients = [other.known for other in others]
        while True:
            shared = self.machine.share(dialog, recipients, keys_seq=keys_seq, view=view, now_ms=now_ms)
            assert not shared.unreachable
            if shared.complete:
                return shared.share

    def introduce(self, dialog: bytes, *others: Phone) -> None:
        """Share the session of the dialog with the others, who receive it; the share becomes live."""
        self.connect(*others)
        share = self.share(dialog, *others)
        made = slices(self, share)
        for other in others:
            for outcome in other.take(self, *made.get(other.known.device, ())):
                assert isinstance(outcome, KeysReceived), outcome
        self.machine.acked(dialog, 0, share)

    def post(self, dialog: bytes, content: bytes) -> Received:
        """Seal a message; the event that a truthful server makes of it."""
        self.seqs += 1
        return self.write(self.place(dialog, self.seqs), content)

    def write(self, place: Place, content: bytes) -> Received:
        """Seal what stands at this place; its event has the number of the device as its own."""
        sealed = self.seal(place, content)
        return Received(place, place.n, sealed.payload, sealed.session, sealed.commitment, VIEW)

    def seal(self, place: Place, content: bytes, *, view: bytes = VIEW, now_ms: int = NOW_MS) -> Sealed:
        return self.machine.seal(
            place, content, view=view, now_ms=now_ms, command=lambda sealed: OutboxRow(place.n, sealed.payload)
        )

    def place(self, dialog: bytes, n: int, *, keys_seq: int = 1) -> Place:
        return Place(dialog, self.known.principal, self.known.device, n, POSTED, 1, keys_seq)

    def take(self, sender: Phone, *data: bytes) -> list[KeysReceived | ToDevice | OpenError]:
        return self.machine.receive([(sender.known, one) for one in data])

    def open(self, received: Received) -> Opened | OpenError:
        (outcome,) = self.machine.open([received])
        return outcome


def phone(principal: bytes | None = None) -> Phone:
    """A new device of this person, or of a new one."""
    principal, device, state = principal or new_id(), new_id(), MemoryState()
    machine = CryptoMachine(state, principal, device, 1)
    made = Phone(machine, state, KnownDevice(principal, device, machine.public))
    made.upload()
    return made


def slices(sender: Phone, sealed_share: bytes | None) -> dict[bytes, list[bytes]]:
    """What was uploaded under a share, by device."""
    assert sealed_share is not None
    found: dict[bytes, list[bytes]] = {}
    for chunk in sender.machine.chunks_of(sealed_share):
        for device, body in chunk.slices:
            found.setdefault(device, []).append(body)
    return found


def copy_channel(sender: Phone, receiver: Phone, *claimed: KnownDevice) -> None:
    """Let the sender write to devices that are no real ones in the channel that it has with the receiver."""
    step = Step(sender.state)
    for known in claimed:
        step.write(Table.CHANNELS, known.row, step.read(Table.CHANNELS, receiver.known.row))
    step.commit()


def damaged(receiver: Phone, data: bytes) -> bytes:
    """A message to a device, changed on its way."""
    value = decode_canonical(data)
    ciphertext = value["ciphertext"]
    assert isinstance(ciphertext, dict)
    body = ciphertext[to_base64(receiver.known.public.curve25519)]
    text, middle = body["body"], len(body["body"]) // 2
    body["body"] = text[:middle] + ("B" if text[middle] == "A" else "A") + text[middle + 1 :]
    return encode_canonical(value)
