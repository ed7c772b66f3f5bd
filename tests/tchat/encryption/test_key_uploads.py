"""Which keys of a device leave, when, and which never again."""

from __future__ import annotations

import pytest

from protocol.errors import ErrorCode
from protocol.key_commands import UploadKeys
from protocol.replies import Failed, KeysUploaded, Synced
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.own_keys import FALLBACK_MS_MAX, ONE_TIME_KEYS
from tchat.crypto.people import People
from tchat.crypto.state import MemoryState
from tchat.encryption.key_uploads import KeyUploads
from tests.support.scripted import DEVICE, ME
from tests.tchat.crypto.devices import NOW_MS


class Uploading:
    """A device that uploads, and what the server says of it at a sign-in."""

    def __init__(self) -> None:
        self.now_ms, self.state = NOW_MS, MemoryState()
        self.machine = CryptoMachine(self.state, ME, DEVICE, 1)
        self.uploads = KeyUploads(self.machine, People(self.state, ME), lambda: self.now_ms)

    def connect(self, generation: int = 1, held: int = ONE_TIME_KEYS, *, used: bool = False) -> list[UploadKeys]:
        """What it uploads at once."""
        self.uploads.synced(Synced(0, False, 0, generation, held, used))
        return self.due()

    def due(self) -> list[UploadKeys]:
        return [command for command in self.uploads.due() if isinstance(command, UploadKeys)]

    def take(self, upload: UploadKeys) -> None:
        """The server has it."""
        self.uploads.answered(upload, KeysUploaded(0, ONE_TIME_KEYS, False))


@pytest.fixture
def device() -> Uploading:
    return Uploading()


def uploaded(device: Uploading) -> UploadKeys:
    """The first upload of a device, which the server has."""
    (first,) = device.connect(0, 0)
    device.take(first)
    return first


def ids(upload: UploadKeys) -> set[str]:
    return {key.id for key in upload.one_time_keys}


def test_a_new_device_uploads_all_at_once(device: Uploading) -> None:
    first = uploaded(device)
    assert (len(first.one_time_keys), first.fallback is None, device.uploads.done) == (ONE_TIME_KEYS, False, True)
    assert device.due() == []


def test_what_was_not_answered_is_offered_again(device: Uploading) -> None:
    (first,) = device.connect(0, 0)
    device.uploads.disconnected()
    device.connect(1, 3)
    device.uploads.caught_up()
    (again,) = device.due()
    assert ids(again) == ids(first)


def test_what_a_restored_server_may_have_given_out_is_not_offered_again(device: Uploading) -> None:
    """The upload was stored and given out, and its answer was lost; then the server lost that."""
    (first,) = device.connect(0, 0)
    device.uploads.disconnected()
    device.connect(1, 0)
    device.uploads.caught_up()
    (again,) = device.due()
    assert not ids(again) & ids(first)
    assert again.fallback is not None
    assert len(again.one_time_keys) == ONE_TIME_KEYS


def test_used_keys_are_replaced_when_half_of_them_are_gone(device: Uploading) -> None:
    uploaded(device)
    device.connect()
    for _ in range(ONE_TIME_KEYS // 2):
        device.uploads.key_was_used()
    assert device.due() == []
    device.uploads.key_was_used()
    (more,) = device.due()
    assert len(more.one_time_keys) == ONE_TIME_KEYS // 2 + 1


def test_a_fallback_key_is_replaced_only_when_all_that_waited_was_heard(device: Uploading) -> None:
    first = uploaded(device)
    device.now_ms += FALLBACK_MS_MAX
    assert device.connect(used=True) == []
    device.uploads.caught_up()
    (second,) = device.due()
    assert second.fallback is not None
    assert first.fallback is not None
    assert second.fallback.id != first.fallback.id


def test_nothing_leaves_when_nothing_is_missing(device: Uploading) -> None:
    uploaded(device)
    device.connect()
    device.uploads.caught_up()
    assert device.due() == []


@pytest.mark.parametrize(("code", "again"), [(ErrorCode.UNAVAILABLE, 1), (ErrorCode.KEYS_REFUSED, 0)])
def test_only_a_temporary_refusal_is_tried_again(device: Uploading, code: ErrorCode, again: int) -> None:
    (first,) = device.connect(0, 0)
    device.uploads.answered(first, Failed(0, code, "no"))
    assert len(device.due()) == again
    assert len(device.uploads.take_notices()) == 1 - again
