"""Loads the keys: from the configuration, or in development from files in the data folder, created on first use."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from server.config.setting_types import Secret
from server.config.settings import Config
from server.identity.signing_keys import SigningKeyError, SigningKeys, new_pem
from server.identity.vault import Vault, VaultError, is_guessable, new_key
from server.startup_error import StartupError

KEY_FOLDER = "keys"
"""The folder of the data folder where keys are that nobody has configured."""
KEY_FILES = {"signing_key": "signing.pem", "phone_key": "phone.key"}
"""Their files there, by the key of the configuration."""


def load_signing_keys(config: Config) -> SigningKeys:
    """The keys of access tokens; raises StartupError."""
    text = _key_text(config, "signing_key", config.identity.signing_key, new_pem)
    try:
        keys = SigningKeys.from_pem(text)
    except SigningKeyError as error:
        raise StartupError(f"identity.signing_key cannot be used: {error}.") from error
    _refuse_guessable(config, "signing_key", is_guessable(keys.signing.private_bytes_raw()))
    return keys


def load_vault(config: Config) -> Vault:
    """The keys of phone numbers; raises StartupError."""
    text = _key_text(config, "phone_key", config.identity.phone_key, new_key)
    try:
        vault = Vault.from_text(text)
    except VaultError as error:
        raise StartupError(f"identity.phone_key cannot be used: {error}.") from error
    _refuse_guessable(config, "phone_key", vault.is_guessable)
    return vault


def _refuse_guessable(config: Config, key: str, guessable: bool) -> None:
    if guessable and config.server.mode == "production":
        raise StartupError(f"identity.{key} can be guessed: make a random one, as docs/deployment.md shows.")


def _key_text(config: Config, key: str, secret: Secret, make: Callable[[], str]) -> str:
    if secret:
        return secret.reveal()
    if config.server.mode == "production":
        raise StartupError(
            f"identity.{key} is required in production, the same on every node, and kept with the backups: "
            f"set identity.{key}_file."
        )
    return read_or_create(config.server.data_dir / KEY_FOLDER / KEY_FILES[key], make)


def read_or_create(path: Path, make: Callable[[], str]) -> str:
    """The text of a file that only its owner may read; when there is none, create it atomically."""
    try:
        for folder in (path.parent.parent, path.parent):  # `mkdir` applies `mode` to the last folder only
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
            with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(make())
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # another server was first: its key is the key
                os.link(fresh, path)
            fresh.unlink()
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"The key file {path} cannot be used: {error}.") from error
