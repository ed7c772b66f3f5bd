"""Where the key of a store is kept, and what is said when it is not there."""

from __future__ import annotations

import os
from pathlib import Path

import keyring
import keyring.backend
import keyring.backends.fail
import keyring.errors
import msgspec
import pytest
from nacl.pwhash import argon2id

from tchat import store_key
from tchat.crypto.store_errors import ExposedKeyError, NoKeyError, NoKeyringError, SealedStoreError, WrongKeyError
from tchat.sealed_store import SealedStore
from tchat.store import Stored
from tchat.store_key import FileKey, KeyringKey, KeySource, PassphraseKey


class Ring(keyring.backend.KeyringBackend):
    """A keyring in memory."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = self.forgetful = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise keyring.errors.KeyringLocked
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if not self.forgetful:
            self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.kept[service, username]


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch) -> Ring:
    made = Ring()
    monkeypatch.setattr(keyring, "get_password", made.get_password)
    monkeypatch.setattr(keyring, "set_password", made.set_password)
    return made


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_key, "ARGON2_OPERATIONS", argon2id.OPSLIMIT_MIN)
    monkeypatch.setattr(store_key, "ARGON2_MEMORY_BYTES", argon2id.MEMLIMIT_MIN)


@pytest.fixture(params=["keyring", "passphrase", "file"])
def source(request: pytest.FixtureRequest, ring: Ring, tmp_path: Path) -> KeySource:  # noqa: ARG001 - in its place
    sources: dict[str, KeySource] = {
        "keyring": KeyringKey("a device"),
        "passphrase": PassphraseKey("correct horse"),
        "file": FileKey(tmp_path / "key"),
    }
    return sources[request.param]


def test_what_was_made_is_read_again_and_never_shown(source: KeySource) -> None:
    key, note = source.make()
    assert len(key) == 32
    assert source.read(note) == key
    assert "horse" not in repr(source)
    assert repr(key) not in repr(source)


def test_a_store_opens_again_under_its_key(source: KeySource, tmp_path: Path) -> None:
    store = SealedStore(tmp_path / "store", source, first_n=1)
    store.append(Stored(1, b"intent"))
    store.close()
    store = SealedStore(tmp_path / "store", source)
    assert store.pending() == [Stored(1, b"intent")]
    store.close()


def test_a_wrong_passphrase_is_refused_and_nothing_is_lost(tmp_path: Path) -> None:
    store = SealedStore(tmp_path / "store", PassphraseKey("right"), first_n=1)
    store.append(Stored(1, b"intent"))
    store.close()
    for wrong in ("wrong", "", "right "):
        with pytest.raises(WrongKeyError):
            SealedStore(tmp_path / "store", PassphraseKey(wrong))
    store = SealedStore(tmp_path / "store", PassphraseKey("right"))
    assert store.pending() == [Stored(1, b"intent")]
    store.close()


def test_a_passphrase_is_the_same_however_a_keyboard_writes_it() -> None:
    key, note = PassphraseKey("caf\u00e9").make()
    assert PassphraseKey("cafe\u0301").read(note) == key


def test_a_passphrase_that_a_terminal_could_not_decode_is_taken_and_not_shown_in_an_error() -> None:
    key, note = PassphraseKey("horse\udcff").make()
    assert PassphraseKey("horse\udcff").read(note) == key


def test_an_empty_passphrase_makes_no_store(tmp_path: Path) -> None:
    with pytest.raises(WrongKeyError, match="empty"):
        SealedStore(tmp_path / "store", PassphraseKey(""))


def test_two_stores_under_one_passphrase_have_two_keys() -> None:
    assert PassphraseKey("same").make()[0] != PassphraseKey("same").make()[0]


@pytest.mark.parametrize("cost", [(b"short", 1, 8192), (bytes(16), 10**6, 8192), (bytes(16), 1, 2**50), None])
def test_a_file_cannot_ask_for_any_cost_it_likes(cost: tuple[bytes, int, int] | None) -> None:
    note = b"" if cost is None else msgspec.msgpack.encode(cost)
    with pytest.raises(WrongKeyError):
        PassphraseKey("any").read(note)


def test_without_a_keyring_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    no_keyring = keyring.backends.fail.Keyring()  # type: ignore[no-untyped-call]
    monkeypatch.setattr(keyring, "get_password", no_keyring.get_password)
    with pytest.raises(NoKeyringError, match="passphrase or in a file"):
        SealedStore(tmp_path / "store", KeyringKey("a device"))


def test_a_locked_keyring_is_none_and_makes_no_other_key(ring: Ring, tmp_path: Path) -> None:
    SealedStore(tmp_path / "store", KeyringKey("a device")).close()
    before = dict(ring.kept)
    ring.locked = True
    with pytest.raises(NoKeyringError):
        SealedStore(tmp_path / "store", KeyringKey("a device"))
    assert ring.kept == before


def test_a_keyring_that_keeps_nothing_gets_no_store(ring: Ring, tmp_path: Path) -> None:
    ring.forgetful = True
    with pytest.raises(NoKeyringError):
        SealedStore(tmp_path / "store", KeyringKey("a device"))


def test_a_key_that_is_missing_is_not_made_anew_for_a_store_that_is_there(ring: Ring, tmp_path: Path) -> None:
    SealedStore(tmp_path / "one", KeyringKey("a device")).close()
    SealedStore(tmp_path / "two", FileKey(tmp_path / "key")).close()
    ring.kept.clear()
    (tmp_path / "key").unlink()
    for name, source in (("one", KeyringKey("a device")), ("two", FileKey(tmp_path / "key"))):
        with pytest.raises(NoKeyError):
            SealedStore(tmp_path / name, source)
    assert not ring.kept
    assert not (tmp_path / "key").exists()


def test_a_key_that_is_there_is_not_replaced(source: KeySource) -> None:
    if not isinstance(source, PassphraseKey):
        assert source.make() == source.make()


def test_what_is_no_key_is_refused_and_not_shown(ring: Ring, tmp_path: Path) -> None:
    ring.kept["tchat", "a device"] = "a password of something else"
    (tmp_path / "key").write_bytes(b"a password of something else")
    (tmp_path / "key").chmod(0o600)
    for source in (KeyringKey("a device"), FileKey(tmp_path / "key")):
        with pytest.raises(WrongKeyError) as refused:
            source.make()
        assert "password" not in str(refused.value)


def test_a_key_file_is_its_owners_alone(tmp_path: Path) -> None:
    source = FileKey(tmp_path / "key")
    source.make()
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["key"]  # noqa: PTH208 - hidden files, too
    (tmp_path / "key").chmod(0o640)
    with pytest.raises(ExposedKeyError, match="chmod 600"):
        source.read(b"")


def test_every_error_has_a_code_and_a_sentence_that_says_what_to_do() -> None:
    kinds = SealedStoreError.__subclasses__()
    assert len({kind.code for kind in kinds}) == len(kinds) == 9
    for kind in kinds:
        assert ": " in kind.sentence
        assert str(kind("detail")).endswith("(detail)")
