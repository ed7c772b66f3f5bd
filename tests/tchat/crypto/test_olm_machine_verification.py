"""Matrix' own implementation and ours verify each other: by symbols, by a code, and from the same key objects."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from typing import Any

import pytest

from protocol.canonical import device_id_of, encode_canonical, user_id_of
from protocol.cross_signing import read_cross_signing, read_device_keys
from protocol.ids import new_id
from tchat.crypto.compared import Compared, MessageType, Party
from tchat.crypto.own_identity import OwnIdentity
from tchat.crypto.qr import QrCode
from tchat.crypto.verification import Phase, Verification, VerificationMessage
from tests.engines.olm_machine import OlmMachine
from tests.support.key_pairs import bears_signature
from tests.tchat.crypto.devices import phone


@dataclass
class Meeting:
    """Alice's device is ours, Bob's is Matrix'; what either sends is carried to the other."""

    matrix: OlmMachine
    ours: Verification
    alice: str
    bob: Party
    bob_signs_people_with: bytes
    now_ms: int

    def send(self, messages: list[VerificationMessage]) -> None:
        """Ours to Matrix', and back what it answers by itself."""
        for message in messages:
            content = json.loads(message.content)
            self.matrix.call("receive", [{"type": message.kind, "sender": self.alice, "content": content}])
        self.step("answer")

    def step(self, step: str, code: bytes = b"") -> None:
        """What Bob's person does, and what follows of it."""
        answers = self.matrix.call("verification", self.alice, self.ours.transaction, step, list(code))
        for answer in answers:
            content = encode_canonical(answer["content"])
            replies = self.ours.receive(self.bob.device, MessageType(answer["type"]), content, self.now_ms)
            if replies:
                self.send(replies)

    @property
    def is_done(self) -> bool:
        """Bob's device has verified Alice, and has signed her master key for his other devices."""
        found = self.compared
        (signed,) = found["signed"].values()
        assert isinstance(found["done"], bool)
        return found["done"] and bears_signature(
            encode_canonical(signed), self.bob.principal, self.bob_signs_people_with
        )

    @property
    def compared(self) -> Any:
        return self.matrix.call("compared", self.alice, self.ours.transaction)


@pytest.fixture
def meeting(olm_machine: OlmMachine) -> Meeting:
    """Both know each other's keys from the server, and Alice has asked, and Bob accepted."""
    principal, device, now_ms = new_id(), new_id(), int(time.time() * 1000)
    bob_id, bob_device = user_id_of(principal), device_id_of(device)
    uploaded = olm_machine.call("start", bob_id, bob_device)
    objects = olm_machine.call("bootstrap")
    bob_master, bob_self, bob_user = (
        encode_canonical(objects[f"{role}_key"]) for role in ("master", "self_signing", "user_signing")
    )
    bob_keys = read_device_keys(encode_canonical(uploaded["device_keys"]), principal, device)
    bob_identity = read_cross_signing(principal, bob_master, bob_self, bob_user)
    bob = Party(principal, device, bob_keys.ed25519, bob_identity.master)

    ours = phone()
    identity = OwnIdentity(ours.known.principal, 1)
    alice = user_id_of(identity.principal)
    signed = identity.sign_device(ours.machine.device_keys)
    olm_machine.call(
        "know",
        {alice: {device_id_of(ours.known.device): json.loads(signed)}, bob_id: {bob_device: uploaded["device_keys"]}},
        {
            "master_keys": {alice: json.loads(identity.objects().master), bob_id: objects["master_key"]},
            "self_signing_keys": {
                alice: json.loads(identity.objects().self_signing),
                bob_id: objects["self_signing_key"],
            },
            "user_signing_keys": {bob_id: objects["user_signing_key"]},
        },
    )
    me = Party(identity.principal, ours.known.device, ours.known.public.ed25519, identity.public.master)
    verification, request = Verification.ask(me, [bob], now_ms)
    met = Meeting(olm_machine, verification, alice, bob, bob_identity.user_signing, now_ms)
    met.send(request)
    met.step("accept")
    assert verification.phase is Phase.READY
    return met


@pytest.mark.parametrize("starter", ["ours", "matrix"])
def test_both_show_the_same_symbols_and_verify_each_other(meeting: Meeting, starter: str) -> None:
    if starter == "ours":
        meeting.send(meeting.ours.start_sas(meeting.now_ms))
        meeting.step("acceptSas")
    else:
        meeting.step("start")
    assert meeting.ours.phase is Phase.COMPARING
    shown = meeting.ours.shown
    assert shown is not None
    assert (meeting.compared["emoji"], meeting.compared["numbers"]) == (list(shown.emoji), list(shown.numbers))
    meeting.step("confirm")
    meeting.send(meeting.ours.confirm(meeting.now_ms))
    assert meeting.ours.compared == Compared(meeting.bob.master, meeting.bob.ed25519)
    assert meeting.is_done


def test_we_scan_the_code_that_matrix_shows(meeting: Meeting) -> None:
    code = bytes(meeting.matrix.call("code", meeting.alice, meeting.ours.transaction))
    meeting.send(meeting.ours.scan(QrCode.decode(code), meeting.now_ms))
    meeting.step("confirmScanning")
    assert meeting.ours.compared == Compared(meeting.bob.master, None)
    assert meeting.is_done


def test_matrix_scans_the_code_that_we_show(meeting: Meeting) -> None:
    assert meeting.ours.code is not None
    meeting.step("scan", meeting.ours.code.encode())
    assert meeting.ours.phase is Phase.SCANNED
    meeting.send(meeting.ours.confirm(meeting.now_ms))
    assert meeting.ours.compared == Compared(meeting.bob.master, None)
    assert meeting.is_done
