"""Keys come from the configuration; in development the data folder keeps them, for its owner alone."""

import base64
import os
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from server.config.setting_types import Secret
from server.config.settings import Config, IdentitySettings, ServerSettings
from server.identity.code_sender import CodeSender, LogCodeSender, make_sender
from server.identity.key_files import load_signing_keys, load_vault
from server.identity.signing_keys import SigningKeys, new_pem
from server.identity.vault import is_guessable, new_key
from server.node.identity_parts import IdentitySecrets
from server.startup_error import StartupError


def development(folder: Path, identity: IdentitySettings | None = None) -> Config:
    return Config(server=ServerSettings(data_dir=folder), identity=identity or IdentitySettings())


def production(folder: Path, identity: IdentitySettings) -> Config:
    return Config(server=ServerSettings(mode="production", data_dir=folder), identity=identity)


def test_development_makes_keys_once_and_keeps_them_private(tmp_path: Path) -> None:
    config = development(tmp_path / "data")
    assert load_signing_keys(config).kid == load_signing_keys(config).kid
    key, box = load_vault(config).seal("+6591234567")
    assert load_vault(config).open(key, box) == "+6591234567"
    files = sorted((tmp_path / "data" / "keys").iterdir())
    assert [file.name for file in files] == ["phone.key", "signing.pem"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    for folder in (tmp_path / "data", tmp_path / "data" / "keys"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_production_makes_no_keys(tmp_path: Path) -> None:
    both = IdentitySettings(signing_key=Secret(new_pem()), phone_key=Secret(new_key()))
    for lacking in (IdentitySettings(phone_key=both.phone_key), IdentitySettings(signing_key=both.signing_key)):
        with pytest.raises(StartupError, match="required in production"):
            IdentitySecrets.load(production(tmp_path, lacking))
    assert list(tmp_path.iterdir()) == []


def test_configured_keys_are_used(tmp_path: Path) -> None:
    pem = new_pem()
    config = development(tmp_path, IdentitySettings(signing_key=Secret(pem)))
    assert load_signing_keys(config).kid == SigningKeys.from_pem(pem).kid
    assert list(tmp_path.iterdir()) == []


def test_keys_of_another_form_stop_the_start_and_are_not_shown(tmp_path: Path) -> None:
    config = development(tmp_path, IdentitySettings(signing_key=Secret("hunter2"), phone_key=Secret("hunter2")))
    for load in (load_signing_keys, load_vault):
        with pytest.raises(StartupError) as refused:
            load(config)
        assert "hunter2" not in str(refused.value)


def test_a_key_file_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("a file where the folder should be")
    with pytest.raises(StartupError, match="cannot be used"):
        load_vault(development(tmp_path))


class Pigeon(CodeSender):
    """A sender that a platform might write."""

    async def send(self, phone_number: str, code: str) -> None:
        """Sends nothing."""


def named(sender: str) -> Config:
    return Config(identity=IdentitySettings(code_sender=sender))


def test_a_sender_of_ones_own_is_named_by_module_and_attribute() -> None:
    assert isinstance(make_sender(Config()), LogCodeSender)
    assert isinstance(make_sender(named(f"{__name__}:Pigeon")), Pigeon)
    assert make_sender(named("none")) is None


@pytest.mark.parametrize("name", ["", "sms", "no.such.module:Sender", "json:Sender", ":Sender", "json:loads"])
def test_a_sender_that_is_not_there_stops_the_start(name: str) -> None:
    with pytest.raises(StartupError, match=r"identity\.code_sender"):
        make_sender(named(name))


@pytest.mark.parametrize("key", [bytes(32), b"\xff" * 32, bytes(range(32)), b"password" * 4])
def test_production_refuses_keys_that_can_be_guessed(tmp_path: Path, key: bytes) -> None:
    text = Secret(base64.b64encode(key).decode())
    pem = Ed25519PrivateKey.from_private_bytes(key).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    weak = IdentitySettings(phone_key=text, signing_key=Secret(pem.decode()))
    for load in (load_signing_keys, load_vault):
        load(development(tmp_path, weak))
        with pytest.raises(StartupError, match="can be guessed"):
            load(production(tmp_path, weak))


def test_random_keys_are_not_taken_for_weak_ones() -> None:
    assert not any(is_guessable(os.urandom(32)) for _ in range(1000))
    assert not is_guessable(os.urandom(16).hex().encode())


def test_of_two_servers_that_make_a_key_at_once_both_use_the_first_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = development(tmp_path)
    first: list[str] = []

    def made_meanwhile() -> str:
        monkeypatch.undo()
        first.append(load_signing_keys(config).kid)
        return new_pem()

    monkeypatch.setattr("server.identity.key_files.new_pem", made_meanwhile)
    assert load_signing_keys(config).kid == first[0]
    assert [path.name for path in (tmp_path / "keys").iterdir()] == ["signing.pem"]
