"""A careless device of the conversation says nothing that the server may store although it refused it."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from protocol.commands import Numbered, React, Send
from protocol.dialog_types import Mode
from protocol.ids import new_id
from protocol.share_commands import UploadSlices
from tchat.encryption.sealing import First, Ready
from tchat.store import MemoryOutbox
from tests.support.sharing import KeyRing, SharingSealer


class Throws(random.Random):
    """Dice that fall as they are told: low is careless."""

    def __init__(self, *falls: float) -> None:
        super().__init__(0)
        self._falls = list(falls)

    def random(self) -> float:
        return self._falls.pop(0)


@pytest.fixture
def seal() -> Callable[..., object]:
    dialog = new_id()
    keys = KeyRing(new_id(), modes={dialog: Mode.SEALED})

    def seal(intent: Numbered, *falls: float) -> object:
        sealer = SharingSealer(MemoryOutbox(), keys, Throws(*falls))
        return sealer.seal(msgspec.structs.replace(intent, dialog=dialog), lambda _sealed: b"")

    return seal


def test_it_withdraws_no_reaction_in_the_clear(seal: Callable[..., object]) -> None:
    assert isinstance(seal(React(0, b"", 1, 5, b""), 0.0, 0.0), Ready)


def test_a_share_that_a_message_named_too_early_is_uploaded_for_no_other(seal: Callable[..., object]) -> None:
    early = seal(Send(0, b"", 1, b"early"), 0.9, 0.0)
    later = seal(Send(0, b"", 2, b"later"), 0.9, 0.9)
    assert isinstance(early, Ready)
    assert isinstance(later, First)
    assert isinstance(early.command, Send)
    (upload,) = later.commands
    assert isinstance(upload, UploadSlices)
    assert early.command.header.share != upload.share
