"""The Megolm sessions that this device can read, each of one device in one dialog.

Invariants:

- A session is kept for the device in whose Olm channel it came, and for one dialog. A member can hand on somebody
  else's session (Matrix' libraries take it for the member's): here it is kept beside the owner's, and opens nothing.
- Of one session the earliest index is kept. Keys that differ under the same name are refused.
- Of a device, SESSIONS_OF_A_DEVICE_MAX are kept in a dialog: for a newer one the oldest goes, with what it has opened.
  If it is in the backup, it comes back when it is needed. So what a member can fill is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec
import vodozemac

from protocol.canonical import CanonicalError, dialog_of, from_base64
from tchat.crypto.errors import OpenError, Reason
from tchat.crypto.olm import ToDevice
from tchat.crypto.recovery import BackedUpSession
from tchat.crypto.state import Step, Table

SESSION_ID_BYTES = 32
INDEX_MAX = 1000
"""A session is refused beyond this index: each is remembered, and clients rotate long before."""
SESSIONS_OF_A_DEVICE_MAX = 1000
"""In one dialog: those of 100,000 messages."""


class Inbound(msgspec.Struct, array_like=True, frozen=True):
    """A session: of whom, in which dialog, and from which index on this device can read it."""

    principal: bytes
    dialog: bytes
    first_index: int
    pickle: str
    opened: dict[int, bytes] = {}
    """By index: the one event that was opened with it."""
    backed_up: tuple[int, int] = (0, 0)
    """Which identity's backup has it (a generation, 0 for none), and from which index on."""


class _RoomKey(msgspec.Struct, frozen=True):
    algorithm: Literal["m.megolm.v1.aes-sha2"]
    room_id: str
    session_id: str
    session_key: str


def read_inbound(step: Step, session: bytes, device: bytes) -> Inbound | None:
    """A session of a device; None if the device has not handed it to this one."""
    data = step.read(Table.INBOUND, session + device)
    return None if data is None else msgspec.msgpack.decode(data, type=Inbound)


def note_opened(step: Step, row: bytes, known: Inbound, index: int, event: bytes) -> None:
    """This index of a session, whose key in `Table.INBOUND` is `row`, has opened this event."""
    _write(step, row, msgspec.structs.replace(known, opened={**known.opened, index: event}))


def receive_room_key(step: Step, message: ToDevice) -> bytes:
    """Keep the session that a device has handed to this one; returns its id. Raises `OpenError`."""
    try:
        found = msgspec.convert(message.content, _RoomKey)
        dialog = dialog_of(found.room_id)
        session_id = from_base64(found.session_id, SESSION_ID_BYTES)
        session = vodozemac.InboundGroupSession(vodozemac.SessionKey(found.session_key))
    except (msgspec.ValidationError, CanonicalError) as error:
        raise OpenError(Reason.WRONG_FIELDS) from error
    except ValueError as error:  # of vodozemac
        raise OpenError(Reason.MALFORMED) from error
    if session.session_id != found.session_id:
        raise OpenError(Reason.OTHER_SESSION)
    _add(step, message.sender.principal, message.sender.device, dialog, session)
    return session_id


def add_own(step: Step, principal: bytes, device: bytes, dialog: bytes, key: vodozemac.SessionKey) -> None:
    """Keep a session of this device itself, so that it can open what it sealed."""
    _add(step, principal, device, dialog, vodozemac.InboundGroupSession(key))


def back_up(step: Step, session: bytes, device: bytes, generation: int = 0) -> BackedUpSession | None:
    """A session of a device, from the first message that this device can read; None if it is not here.

    Also None if the backup of this `generation` of the own identity has as much of it.
    """
    known = read_inbound(step, session, device)
    if known is None or (generation and known.backed_up[0] == generation and known.backed_up[1] <= known.first_index):
        return None
    held = vodozemac.InboundGroupSession.from_pickle(known.pickle, step.state.pickle_key)
    exported = held.export_at(known.first_index)
    assert exported is not None, "it is the first index that the session has"
    keys = exported.to_base64()
    return BackedUpSession(session, known.dialog, known.principal, device, keys, known.first_index)


def note_backed_up(step: Step, generation: int, sessions: Mapping[bytes, int]) -> None:
    """The backup of this identity has these sessions (each with its device), from these indices on."""
    for row, first_index in sessions.items():
        known = read_inbound(step, row[:SESSION_ID_BYTES], row[SESSION_ID_BYTES:])
        if known is not None:
            _write(step, row, msgspec.structs.replace(known, backed_up=(generation, first_index)))


def restore(step: Step, found: BackedUpSession) -> None:
    """Keep a session that this person's own backup holds; raises `OpenError` if it contradicts one that is here."""
    session = vodozemac.InboundGroupSession.import_session(vodozemac.ExportedSessionKey(found.exported))
    _add(step, found.principal, found.device, found.dialog, session)


def _add(step: Step, principal: bytes, device: bytes, dialog: bytes, session: vodozemac.InboundGroupSession) -> None:
    session_id = from_base64(session.session_id)
    known = read_inbound(step, session_id, device)
    if known is not None:
        if (known.principal, known.dialog) != (principal, dialog):
            raise OpenError(Reason.WRONG_DIALOG)
        held = vodozemac.InboundGroupSession.from_pickle(known.pickle, step.state.pickle_key)
        if not _is_same(held, session):
            raise OpenError(Reason.OTHER_SESSION)
        if known.first_index <= session.first_known_index:
            return
    else:
        _make_room(step, session_id, device, dialog)
    record = Inbound(principal, dialog, session.first_known_index, session.pickle(step.state.pickle_key))
    if known is not None:
        record = msgspec.structs.replace(record, opened=known.opened, backed_up=known.backed_up)
    _write(step, session_id + device, record)


def _make_room(step: Step, session: bytes, device: bytes, dialog: bytes) -> None:
    """List a session as the newest of its device in a dialog; the oldest goes if there are too many."""
    row = dialog + device
    listed = (step.read(Table.SESSIONS, row) or b"") + session
    while len(listed) > SESSIONS_OF_A_DEVICE_MAX * SESSION_ID_BYTES:
        step.write(Table.INBOUND, listed[:SESSION_ID_BYTES] + device, None)
        listed = listed[SESSION_ID_BYTES:]
    step.write(Table.SESSIONS, row, listed)


def _write(step: Step, row: bytes, record: Inbound) -> None:
    step.write(Table.INBOUND, row, msgspec.msgpack.encode(record))


def _is_same(one: vodozemac.InboundGroupSession, other: vodozemac.InboundGroupSession) -> bool:
    """Whether both have the same keys from some index on."""
    index = max(one.first_known_index, other.first_known_index)
    ours, theirs = one.export_at(index), other.export_at(index)
    return ours is not None and theirs is not None and ours.to_base64() == theirs.to_base64()
