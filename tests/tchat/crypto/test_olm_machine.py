"""Matrix' own implementation and ours understand each other: keys, the session of a dialog, and sealed messages."""

from __future__ import annotations

import json
from typing import Any

from protocol.canonical import (
    device_id_of,
    encode_canonical,
    from_base64,
    room_id_of,
    to_base64,
    user_id_of,
)
from protocol.cross_signing import read_device_keys, read_one_time_key
from protocol.franking import Franked, commit
from protocol.ids import new_id
from tchat.crypto.envelope import Opened, Place, Received
from tchat.crypto.machine import KeysReceived
from tchat.crypto.olm import KnownDevice
from tchat.crypto.own_identity import OwnIdentity
from tests.engines.olm_machine import OlmMachine
from tests.tchat.crypto.devices import NOW_MS, POSTED, VIEW, phone, slices

DIALOG = new_id()
CONTENT = "Grüße 👋".encode()
FRANKING_KEY = bytes(range(32))
CLEAR: dict[str, object] = {
    "n": 7,
    "tag": POSTED,
    "kind": 1,
    "target": None,
    "reply_to": None,
    "expires_at_ms": None,
    "ref": None,
    "keys_seq": 1,
    "view": to_base64(VIEW),
    "last_acked_n": 0,
    "frank": to_base64(FRANKING_KEY),
    "body": to_base64(CONTENT),
    "pad": "",
}
"""What is inside a sealed message beside its author."""


def test_what_we_seal_matrix_opens(olm_machine: OlmMachine) -> None:
    alice, principal, device = phone(), new_id(), new_id()
    uploaded = olm_machine.call("start", user_id_of(principal), device_id_of(device))
    bob = KnownDevice(principal, device, read_device_keys(encode_canonical(uploaded["device_keys"]), principal, device))
    author = user_id_of(alice.known.principal)
    identity = OwnIdentity(alice.known.principal, 1)
    objects, device_keys = identity.objects(), identity.sign_device(alice.machine.device_keys)
    olm_machine.call(
        "know",
        {author: {device_id_of(alice.known.device): json.loads(device_keys)}},
        {
            "master_keys": {author: json.loads(objects.master)},
            "self_signing_keys": {author: json.loads(objects.self_signing)},
        },
    )
    one_time_key = encode_canonical(next(iter(uploaded["one_time_keys"].values())))
    alice.machine.open_channels([(bob, one_time_key)], NOW_MS)

    shared = alice.machine.share(DIALOG, [bob], keys_seq=1, view=VIEW, now_ms=NOW_MS)
    (slice_of_bob,) = slices(alice, shared.share)[device]
    sent = {"type": "m.room.encrypted", "sender": author, "content": json.loads(slice_of_bob)}
    assert olm_machine.call("receive", [sent]) == ["m.room_key"]

    event = alice.post(DIALOG, CONTENT)
    sealed = {
        "algorithm": "m.megolm.v1.aes-sha2",
        "ciphertext": to_base64(event.payload),
        "session_id": to_base64(event.session),
    }
    opened = olm_machine.call("decrypt", room_id_of(DIALOG), matrix_event(author, sealed), "CrossSigned")
    assert opened["type"] == "tchat.event"
    assert from_base64(opened["content"]["body"]) == CONTENT


def names(author: KnownDevice) -> dict[str, object]:
    """How a plaintext names its author."""
    return {"author": user_id_of(author.principal), "device": device_id_of(author.device)}


def test_what_matrix_seals_we_open(olm_machine: OlmMachine) -> None:
    alice, principal, device = phone(), new_id(), new_id()
    uploaded = olm_machine.call("start", user_id_of(principal), device_id_of(device))
    bob = KnownDevice(principal, device, read_device_keys(encode_canonical(uploaded["device_keys"]), principal, device))
    for key in uploaded["one_time_keys"].values():
        read_one_time_key(encode_canonical(key), principal, device, bob.public.ed25519)
    reader, reading = user_id_of(alice.known.principal), device_id_of(alice.known.device)
    olm_machine.call("know", {reader: {reading: json.loads(alice.machine.device_keys)}})
    olm_machine.call("claimed", {reader: {reading: {"signed_curve25519:A": json.loads(alice.keys.pop())}}})

    handed = olm_machine.call("share", room_id_of(DIALOG), [reader])[reader][reading]
    (keys,) = alice.machine.receive([(bob, json.dumps(handed).encode())])
    assert isinstance(keys, KeysReceived)

    content = dict(sorted({**CLEAR, **names(bob)}.items()))
    sealed = olm_machine.call("encrypt", room_id_of(DIALOG), "tchat.event", content)
    place = Place(DIALOG, principal, device, n=7, tag=POSTED, kind=1, keys_seq=1)
    commitment = commit(FRANKING_KEY, Franked(DIALOG, principal, device, place.n, place.tag, None, CONTENT))
    payload, session = from_base64(sealed["ciphertext"]), from_base64(sealed["session_id"])
    opened = alice.open(Received(place, 1, payload, session, commitment, VIEW))
    assert isinstance(opened, Opened)
    assert opened.content == CONTENT


def matrix_event(sender: str, content: dict[str, Any]) -> dict[str, Any]:
    """An event as Matrix' client takes one from a server."""
    about = {"event_id": "$event", "origin_server_ts": NOW_MS, "room_id": room_id_of(DIALOG)}
    return {"type": "m.room.encrypted", "sender": sender, "content": content, **about}
