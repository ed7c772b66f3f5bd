"""A sealed message: what is inside the ciphertext, and that it is what the server says it is.

Invariants:

- The plaintext names where it stands and what it is about. Opening compares each of these with what the server gives:
  a server cannot move, rename, redirect or prolong a message.
- An index of a session opens for one event. The same event again gives the same plaintext; another one is a replay.
- Whatever is shown has a commitment that was checked, so it can be reported.
- The plaintext's length is a multiple of PAD_BYTES: the length of a short message tells little.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import vodozemac

from protocol.bodies import Count, Ref
from protocol.canonical import (
    CanonicalError,
    device_id_of,
    encode_canonical,
    frame,
    from_base64,
    room_id_of,
    to_base64,
    user_id_of,
)
from protocol.franking import FRANKING_KEY_BYTES, Franked, commit, is_committed
from protocol.limits import PAYLOAD_BYTES_MAX, SEALED_CONTENT_BYTES_MAX
from tchat.crypto.errors import OpenError, Reason
from tchat.crypto.inbound import INDEX_MAX, Inbound, note_opened, read_inbound
from tchat.crypto.megolm import encrypt_to_dialog
from tchat.crypto.own_keys import OwnKeys
from tchat.crypto.state import Step, Table

PAD_BYTES = 256
_VIEW_BYTES = 32
_json = msgspec.json.Decoder(dict[str, object])
_OPENED_DOMAIN = b"tchat/opened/1"
_EVENT_BYTES = 16
"""Of the hash of an event: nobody finds another one of the same."""
FRANKED_PER_ROW = 16
FRANKED_ROWS_MAX = 625
"""In one dialog: those of 10,000 events."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sealed event stands and what it is about: what its author and the server must agree on.

    `tag` is that of its body. `target` is the message that is edited or reacted to; `kind` is None then.
    """

    dialog: bytes
    author: bytes
    device: bytes
    n: int
    tag: int
    kind: int | None
    keys_seq: int
    target: int | None = None
    reply_to: int | None = None
    expires_at_ms: int | None = None
    ref: Ref | None = None


@dataclass(frozen=True, slots=True)
class Sealed:
    """What a sealed command carries: its payload, and what goes into its header."""

    payload: bytes
    commitment: bytes
    session: bytes
    share: bytes | None


@dataclass(frozen=True, slots=True)
class Received:
    """A sealed event as the server gives it.

    `view` is what this device computed for the event's `keys_seq`; None if it does not know the members of then.
    `history` counts how often the server lost events and the client began anew: then numbers change.
    """

    place: Place
    seq: int
    payload: bytes
    session: bytes
    commitment: bytes
    view: bytes | None
    history: int = 0


@dataclass(frozen=True, slots=True)
class Opened:
    """What a sealed event contained. `last_acked_n` is the number of its device's event before it in the dialog.

    `franking_key` opens the commitment: keep it to report the message. `view` is what the author saw. What is secret is
    not in the `repr`.
    """

    content: bytes = field(repr=False)
    franking_key: bytes = field(repr=False)
    last_acked_n: int
    view: bytes


class _Ref(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: str
    id: str


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    author: str
    device: str
    n: int
    tag: int
    kind: int | None
    target: int | None
    reply_to: int | None
    expires_at_ms: int | None
    ref: _Ref | None
    keys_seq: int
    view: str
    last_acked_n: Count
    frank: str
    body: str
    pad: str


class _Plaintext(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    type: Literal["tchat.event"]
    room_id: str
    content: _Content


def seal(step: Step, own: OwnKeys, place: Place, content: bytes, *, view: bytes, now_ms: int) -> Sealed:
    """Seal what this device writes. Commit the step with the command that is made of it before a byte leaves.

    Raises `NotSharedError` unless all who may read have the session; `ValueError` beyond SEALED_CONTENT_BYTES_MAX.
    """
    if len(content) > SEALED_CONTENT_BYTES_MAX:
        raise ValueError(f"a sealed message has at most {SEALED_CONTENT_BYTES_MAX} bytes")
    assert (place.author, place.device) == (own.principal, own.device)
    key = os.urandom(FRANKING_KEY_BYTES)
    plaintext = _encode(place, content, view, key, _last_acked_n(step, place.dialog))
    message = encrypt_to_dialog(step, place.dialog, plaintext, keys_seq=place.keys_seq, view=view, now_ms=now_ms)
    return Sealed(message.payload, commit(key, _franked(place, content)), message.session, message.share)


def acked(step: Step, dialog: bytes, n: int) -> None:
    """The server acked the number `n` of this device in the dialog."""
    if n > _last_acked_n(step, dialog):
        step.write(Table.ACKED, dialog, n.to_bytes(8, "big"))


def open_sealed(step: Step, received: Received) -> Opened:
    """Open an event, and remember it; `OpenError` if anything about it is not as its author made it."""
    inbound = _session_of(step, received)
    data, index = _decrypt(step, inbound, received.payload)
    plaintext = _decode(data)
    _compare(received, plaintext)
    content, key, view = _read_bytes(plaintext.content)
    if received.view is not None and view != received.view:
        raise OpenError(Reason.WRONG_VIEW)
    if not is_committed(received.commitment, key, _franked(received.place, content)):
        raise OpenError(Reason.BAD_COMMITMENT)
    _remember(step, received, inbound, index)
    _keep_franking_key(step, received.place.dialog, received.seq, key)
    return Opened(content, key, plaintext.content.last_acked_n, view)


def franking_key(step: Step, dialog: bytes, seq: int) -> bytes | None:
    """The key of the commitment of an event that was opened here; None if none was, or if it was opened long ago."""
    return _franking_keys(step, _franking_row(dialog, seq)).get(seq)


def _keep_franking_key(step: Step, dialog: bytes, seq: int, key: bytes) -> None:
    """Keep what a report needs also when the event is erased; beyond the bound the oldest events of the dialog go."""
    row = _franking_row(dialog, seq)
    keys = _franking_keys(step, row)
    if keys.get(seq) == key:
        return
    if not keys:
        others = step.keys(Table.FRANKED, dialog)
        for gone in others[: max(0, len(others) + 1 - FRANKED_ROWS_MAX)]:
            step.write(Table.FRANKED, gone, None)
    step.write(Table.FRANKED, row, msgspec.msgpack.encode({**keys, seq: key}))


def _franking_keys(step: Step, row: bytes) -> dict[int, bytes]:
    data = step.read(Table.FRANKED, row)
    return {} if data is None else msgspec.msgpack.decode(data, type=dict[int, bytes])


def _franking_row(dialog: bytes, seq: int) -> bytes:
    return dialog + (seq // FRANKED_PER_ROW).to_bytes(8, "big")


def _encode(place: Place, content: bytes, view: bytes, key: bytes, last_acked_n: int) -> bytes:
    fields: dict[str, object] = {
        "author": user_id_of(place.author),
        "device": device_id_of(place.device),
        "n": place.n,
        "tag": place.tag,
        "kind": place.kind,
        "target": place.target,
        "reply_to": place.reply_to,
        "expires_at_ms": place.expires_at_ms,
        "ref": None if place.ref is None else {"type": place.ref.type, "id": place.ref.id},
        "keys_seq": place.keys_seq,
        "view": to_base64(view),
        "last_acked_n": last_acked_n,
        "frank": to_base64(key),
        "body": to_base64(content),
        "pad": "",
    }
    plaintext = {"type": "tchat.event", "room_id": room_id_of(place.dialog), "content": fields}
    fields["pad"] = "-" * (-len(encode_canonical(plaintext)) % PAD_BYTES)
    return encode_canonical(plaintext)


def _session_of(step: Step, received: Received) -> Inbound:
    """The session, as the device that is said to have written the event handed it on."""
    if len(received.payload) > PAYLOAD_BYTES_MAX:
        raise OpenError(Reason.TOO_LARGE)
    place = received.place
    inbound = read_inbound(step, received.session, place.device)
    if inbound is None:
        others = step.keys(Table.INBOUND, received.session)
        raise OpenError(Reason.WRONG_OWNER if others else Reason.UNKNOWN_SESSION)
    if inbound.principal != place.author:
        raise OpenError(Reason.WRONG_OWNER)
    if inbound.dialog != place.dialog:
        raise OpenError(Reason.WRONG_DIALOG)
    return inbound


def _decrypt(step: Step, inbound: Inbound, payload: bytes) -> tuple[bytes, int]:
    try:
        message = vodozemac.MegolmMessage.from_bytes(payload)
    except ValueError as error:
        raise OpenError(Reason.MALFORMED) from error
    if message.message_index() > INDEX_MAX:
        raise OpenError(Reason.OVERUSED)
    if message.message_index() < inbound.first_index:
        raise OpenError(Reason.BEFORE_KEYS)
    session = vodozemac.InboundGroupSession.from_pickle(inbound.pickle, step.state.pickle_key)
    try:
        decrypted = session.decrypt(message)
    except ValueError as error:
        raise OpenError(Reason.UNDECRYPTABLE) from error
    return decrypted.plaintext, decrypted.message_index


def _decode(data: bytes) -> _Plaintext:
    """The plaintext, if it has the form in which our library or Matrix' writes it, so that all read it alike."""
    try:
        value = _json.decode(data)
        if data != encode_canonical(value) and data != _as_matrix_writes(value):
            raise OpenError(Reason.NOT_CANONICAL)
        return msgspec.convert(value, _Plaintext)
    except msgspec.ValidationError as error:
        raise OpenError(Reason.WRONG_FIELDS) from error
    except (CanonicalError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OpenError(Reason.NOT_CANONICAL) from error


def _as_matrix_writes(value: dict[str, object]) -> bytes:
    """Matrix' library does not sort the three fields around the content, which is canonical all the same."""
    parts = (f'"{name}":'.encode() + encode_canonical(value.get(name)) for name in ("type", "content", "room_id"))
    return b"{" + b",".join(parts) + b"}"


def _compare(received: Received, plaintext: _Plaintext) -> None:
    """Each thing that the author and the server both say."""
    place, content = received.place, plaintext.content
    ref = None if content.ref is None else Ref(content.ref.type, content.ref.id)
    pairs: Iterable[tuple[Reason, object, object]] = (
        (Reason.WRONG_DIALOG, plaintext.room_id, room_id_of(place.dialog)),
        (Reason.WRONG_AUTHOR, content.author, user_id_of(place.author)),
        (Reason.WRONG_DEVICE, content.device, device_id_of(place.device)),
        (Reason.WRONG_N, content.n, place.n),
        (Reason.WRONG_TAG, content.tag, place.tag),
        (Reason.WRONG_KIND, content.kind, place.kind),
        (Reason.WRONG_TARGET, content.target, place.target),
        (Reason.WRONG_REPLY_TO, content.reply_to, place.reply_to),
        (Reason.WRONG_EXPIRY, content.expires_at_ms, place.expires_at_ms),
        (Reason.WRONG_REF, ref, place.ref),
        (Reason.WRONG_KEYS_SEQ, content.keys_seq, place.keys_seq),
    )
    for reason, said, given in pairs:
        if said != given:
            raise OpenError(reason)


def _read_bytes(content: _Content) -> tuple[bytes, bytes, bytes]:
    """Content, franking key and view."""
    try:
        return from_base64(content.body), from_base64(content.frank), from_base64(content.view, _VIEW_BYTES)
    except CanonicalError as error:
        raise OpenError(Reason.WRONG_FIELDS) from error


def _franked(place: Place, content: bytes) -> Franked:
    return Franked(place.dialog, place.author, place.device, place.n, place.tag, place.target, content)


def _remember(step: Step, received: Received, inbound: Inbound, index: int) -> None:
    """Note that this index was opened for this event; `OpenError` if it was for another one."""
    history, seq = received.history.to_bytes(4, "big"), received.seq.to_bytes(8, "big")
    event = hashlib.sha256(frame(_OPENED_DOMAIN, history, seq, received.payload)).digest()[:_EVENT_BYTES]
    known = inbound.opened.get(index)
    if known == history + event:
        return
    if known is not None and known[:4] >= history:
        raise OpenError(Reason.REPLAYED)
    note_opened(step, received.session + received.place.device, inbound, index, history + event)


def _last_acked_n(step: Step, dialog: bytes) -> int:
    return int.from_bytes(step.read(Table.ACKED, dialog) or b"", "big")
