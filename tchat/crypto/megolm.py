"""The sessions under which this device seals, one in each dialog, and the slices that hand them to other devices.

Invariants:

- A device that got a slice, or may have got one, counts as having the session, even if it says that it lost it. When
  such a device may not read any more, or after SESSION_MESSAGES_MAX messages or SESSION_MS_MAX, a new session begins.
- The devices of a person share sessions through the backup. So a new session also begins when a reader has lost a
  device that got no slice: `removals`.
- Nothing is sealed unless a share for this `keys_seq` and `view` has a slice for each device that may read.
- A share stays, with its slices, until a message that names it was acked. One that the server refused is not live; its
  slices then go into the next share as they are, so that no device needs a second one.
- At most SHARES_IN_FLIGHT_MAX shares await their ack: an Olm session keeps the keys of 40 messages that it skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import vodozemac

from protocol.canonical import from_base64, room_id_of, to_base64
from protocol.cross_signing import ALGORITHMS
from protocol.ids import ID_BYTES, new_id
from protocol.limits import SHARES_IN_FLIGHT_MAX
from tchat.crypto.errors import NotSharedError, TooManySharesError
from tchat.crypto.inbound import add_own
from tchat.crypto.olm import KnownDevice, encrypt, has_channel
from tchat.crypto.own_keys import OwnKeys
from tchat.crypto.state import CryptoState, Step, Table

MEGOLM = ALGORITHMS[1]
ROOM_KEY = "m.room_key"
SESSION_MESSAGES_MAX = 100
SESSION_MS_MAX = 7 * 86_400_000
SLICES_PER_CHUNK_MAX = 100
_NONE = -1
"""No `keys_seq` of a dialog: the next share is another one."""


Removals = tuple[int, int]
"""Of a person: which identity their device log is of, and how many devices it has lost."""


class Chunk(msgspec.Struct, array_like=True, frozen=True):
    """Slices of a share as they are uploaded: for each device, Matrix' encrypted message to it."""

    share: bytes
    dialog: bytes
    session: bytes
    keys_seq: int
    slices: list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Shared:
    """How far a share is. Call `share` again until it is `complete`, after `unreachable` devices have a channel.

    `share` names the slices that must be uploaded (`chunks_of`); None if those of all devices are live.
    """

    complete: bool
    share: bytes | None
    unreachable: tuple[KnownDevice, ...] = ()


class _Outbound(msgspec.Struct, array_like=True):
    session: bytes
    pickle: str
    started_ms: int
    sealed: int = 0
    share: bytes | None = None
    """Names the share that is not known to be live."""
    chunks: int = 0
    keys_seq: int = _NONE
    covers: bytes | None = None
    """The view of which every device has the session; None while some lack it."""
    removals: dict[bytes, Removals] = {}
    """By person, as of when they could read last."""
    lost: list[bytes] = []
    """Devices (`KnownDevice.row`) that got the session, and say that they have lost it: they get it again."""

    def is_spent(self, now_ms: int) -> bool:
        """Whether the next message needs a new session."""
        return self.sealed >= SESSION_MESSAGES_MAX or now_ms - self.started_ms >= SESSION_MS_MAX

    def is_in_other_hands(self, removals: Mapping[bytes, Removals]) -> bool:
        """Whether somebody who had the session has lost a device since, which may have it from their other devices."""
        return any(self.removals.get(person, now) != now for person, now in removals.items())


def share(
    step: Step,
    own: OwnKeys,
    dialog: bytes,
    recipients: Sequence[KnownDevice],
    *,
    keys_seq: int,
    view: bytes,
    now_ms: int,
    removals: Mapping[bytes, Removals],
) -> Shared:
    """Make slices for devices that lack the dialog's session, at most SLICES_PER_CHUNK_MAX in one call.

    `recipients` are all devices that may read at this `keys_seq`; this device may be among them. `removals` are those
    of their people. Raises `TooManySharesError`.
    """
    targets = {known.row: known for known in recipients if known.device != own.device}
    outbound = _read(step, dialog)
    handed = _handed(step, outbound)
    if (
        outbound is None
        or outbound.is_spent(now_ms)
        or outbound.is_in_other_hands(removals)
        or not handed <= targets.keys()
    ):
        outbound, handed = _begin_session(step, own, dialog, outbound, now_ms), set()
    outbound.removals |= removals
    handed -= set(outbound.lost)
    if (outbound.keys_seq, outbound.covers) == (keys_seq, view) and handed == targets.keys():
        return Shared(complete=True, share=outbound.share)
    if outbound.share is None or outbound.covers is not None or outbound.keys_seq != keys_seq:
        _begin_share(step, outbound, keys_seq, handed)
    missing = [targets[row] for row in sorted(targets.keys() - handed)]
    reachable = [known for known in missing if has_channel(step, known)]
    made = reachable[:SLICES_PER_CHUNK_MAX]
    complete = len(made) == len(missing)
    if made or (complete and not outbound.chunks):
        _make_chunk(step, own, dialog, outbound, made)
    outbound.covers = view if complete else None
    _write(step, dialog, outbound)
    return Shared(complete, outbound.share, tuple(known for known in missing if not has_channel(step, known)))


@dataclass(frozen=True, slots=True)
class GroupMessage:
    """A Megolm message, the session that it is of, and the share that the header must name."""

    payload: bytes
    session: bytes
    share: bytes | None


def encrypt_to_dialog(
    step: Step, dialog: bytes, plaintext: bytes, *, keys_seq: int, view: bytes, now_ms: int
) -> GroupMessage:
    """Encrypt under the dialog's session; `NotSharedError` unless all who may read at this `keys_seq` have it."""
    outbound = _read(step, dialog)
    if outbound is None or outbound.is_spent(now_ms) or (outbound.keys_seq, outbound.covers) != (keys_seq, view):
        raise NotSharedError
    session = vodozemac.GroupSession.from_pickle(outbound.pickle, step.state.pickle_key)
    payload = session.encrypt(plaintext).to_bytes()
    outbound.pickle = session.pickle(step.state.pickle_key)
    outbound.sealed += 1
    _write(step, dialog, outbound)
    return GroupMessage(payload, outbound.session, outbound.share)


def share_is_live(step: Step, dialog: bytes, share: bytes) -> None:
    """A message that named this share was acked: its slices are the server's now."""
    outbound = _read(step, dialog)
    if outbound is not None and outbound.share == share:
        _drop_slices(step, share)
        outbound.share, outbound.chunks = None, 0
        _write(step, dialog, outbound)


def hand_again(step: Step, known: KnownDevice) -> None:
    """The device has lost what it was sent: give it the sessions of all dialogs anew, from the next message on."""
    for dialog in step.keys(Table.OUTBOUND):
        outbound = _read(step, dialog)
        if outbound is not None and known.row not in outbound.lost and known.row in _handed(step, outbound):
            outbound.lost.append(known.row)
            outbound.keys_seq = _NONE
            _write(step, dialog, outbound)


def forget_dialog(step: Step, dialog: bytes) -> None:
    """This device seals nothing more in the dialog: its session and its slices go; what was received stays."""
    outbound = _read(step, dialog)
    if outbound is not None:
        _drop_session(step, outbound)
        step.write(Table.OUTBOUND, dialog, None)


def forget_shares(step: Step, kept: Collection[bytes]) -> bool:
    """Forget the sessions of dialogs other than these whose share is not known to be live; whether there are any."""
    found = False
    for dialog in step.keys(Table.OUTBOUND):
        outbound = _read(step, dialog)
        if dialog not in kept and outbound is not None and outbound.share is not None:
            forget_dialog(step, dialog)
            found = True
    return found


def was_handed(step: Step, session: bytes, devices: Collection[bytes]) -> bool:
    """Whether a slice of this session was made for one of these devices."""
    start = len(session) + ID_BYTES
    return bool(devices) and any(key[start : start + ID_BYTES] in devices for key in step.keys(Table.HANDED, session))


def chunks_of(state: CryptoState | Step, share: bytes) -> Iterator[Chunk]:
    """The slices of a share that is not known to be live, in the order in which they were made."""
    for key in state.keys(Table.SLICES, share):
        data = state.read(Table.SLICES, key)
        if data is not None:
            yield msgspec.msgpack.decode(data, type=Chunk)


def _begin_session(step: Step, own: OwnKeys, dialog: bytes, before: _Outbound | None, now_ms: int) -> _Outbound:
    """A new session, which nobody but this device has; slices of the one before that are not live go."""
    if before is not None:
        _drop_session(step, before)
    session = vodozemac.GroupSession()
    add_own(step, own.principal, own.device, dialog, session.session_key)
    return _Outbound(from_base64(session.session_id), session.pickle(step.state.pickle_key), now_ms)


def _drop_session(step: Step, outbound: _Outbound) -> None:
    for key in step.keys(Table.HANDED, outbound.session):
        step.write(Table.HANDED, key, None)
    if outbound.share is not None:
        _drop_slices(step, outbound.share)


def _begin_share(step: Step, outbound: _Outbound, keys_seq: int, handed: set[bytes]) -> None:
    """A new share at this `keys_seq`; the slices of one that is not live move into it."""
    before = outbound.share
    if before is None and len(_shares(step)) >= SHARES_IN_FLIGHT_MAX:
        raise TooManySharesError
    outbound.share, outbound.keys_seq, outbound.chunks = new_id(), keys_seq, 0
    if before is not None:
        still = {row[ID_BYTES : 2 * ID_BYTES] for row in handed}
        for chunk in list(chunks_of(step, before)):
            slices = [(device, body) for device, body in chunk.slices if device in still]
            if slices:
                _write_chunk(step, outbound, Chunk(outbound.share, chunk.dialog, chunk.session, keys_seq, slices))
        _drop_slices(step, before)


def _make_chunk(step: Step, own: OwnKeys, dialog: bytes, outbound: _Outbound, devices: Iterable[KnownDevice]) -> None:
    assert outbound.share is not None
    session = vodozemac.GroupSession.from_pickle(outbound.pickle, step.state.pickle_key)
    room_key: dict[str, object] = {
        "algorithm": MEGOLM,
        "room_id": room_id_of(dialog),
        "session_id": to_base64(outbound.session),
        "session_key": session.session_key.to_base64(),
    }
    slices = []
    for known in devices:
        slices.append((known.device, encrypt(step, own, known, ROOM_KEY, room_key)))
        step.write(Table.HANDED, outbound.session + known.row, b"")
        outbound.lost = [row for row in outbound.lost if row != known.row]
    _write_chunk(step, outbound, Chunk(outbound.share, dialog, outbound.session, outbound.keys_seq, slices))


def _write_chunk(step: Step, outbound: _Outbound, chunk: Chunk) -> None:
    step.write(Table.SLICES, chunk.share + outbound.chunks.to_bytes(4, "big"), msgspec.msgpack.encode(chunk))
    outbound.chunks += 1


def _drop_slices(step: Step, share: bytes) -> None:
    for key in step.keys(Table.SLICES, share):
        step.write(Table.SLICES, key, None)


def _shares(step: Step) -> set[bytes]:
    return {key[:ID_BYTES] for key in step.keys(Table.SLICES)}


def _handed(step: Step, outbound: _Outbound | None) -> set[bytes]:
    if outbound is None:
        return set()
    return {key[len(outbound.session) :] for key in step.keys(Table.HANDED, outbound.session)}


def _read(step: Step, dialog: bytes) -> _Outbound | None:
    data = step.read(Table.OUTBOUND, dialog)
    return None if data is None else msgspec.msgpack.decode(data, type=_Outbound)


def _write(step: Step, dialog: bytes, outbound: _Outbound) -> None:
    step.write(Table.OUTBOUND, dialog, msgspec.msgpack.encode(outbound))
