"""Access tokens for the API key of a bot or a business: what `Client` asks for before each connection."""

from __future__ import annotations

import time
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import msgspec

from tchat.actions import SignInRequiredError, TokenUnavailableError
from tchat.private_file import write_private

_TIMEOUT_S = 10.0
_RENEW_BEFORE_S = 60.0


class _Tokens(msgspec.Struct):
    device: UUID
    access_token: str
    expires_in_s: int


class _Refusal(msgspec.Struct):
    message: str = "the server did not say why"


class KeySignIn:
    """Signs a device in with a key, or with the key in a file; `device_file` has the id of the device."""

    def __init__(self, server: str, key: str | Path, device_file: Path) -> None:
        self._server = server
        self._key = key
        self._device_file = device_file
        self._token = ""
        self._until = 0.0

    async def __call__(self, fresh: bool) -> str:
        """An access token; raises `SignInRequiredError` or `TokenUnavailableError`."""
        if fresh or time.monotonic() > self._until - _RENEW_BEFORE_S:
            await self._sign_in()
        return self._token

    async def _sign_in(self) -> None:
        key = self._key if isinstance(self._key, str) else self._read(self._key)
        asked = {"platform": "bot", "app_version": "1", "device_id": self._own_device()}
        try:
            async with httpx.AsyncClient(timeout=_TIMEOUT_S) as http:
                answer = await http.post(
                    f"{self._server}/v1/sign-in/key",
                    json={"device": asked},
                    headers={"authorization": f"Bearer {key}"},
                )
        except httpx.TransportError as error:
            raise TokenUnavailableError(str(error)) from error
        if not answer.is_success:
            raise self._refused(answer)
        tokens = msgspec.json.decode(answer.content, type=_Tokens)
        self._token, self._until = tokens.access_token, time.monotonic() + tokens.expires_in_s

    def _refused(self, answer: httpx.Response) -> Exception:
        try:
            refusal = msgspec.json.decode(answer.content, type=_Refusal)
        except msgspec.MsgspecError:
            refusal = _Refusal()
        if answer.status_code in (400, 401, 403):
            return SignInRequiredError(
                f"the server refused the key: is it the newest one of this bot? {refusal.message}"
            )
        return TokenUnavailableError(refusal.message)

    def _read(self, path: Path) -> str:
        try:
            return path.read_text().strip()
        except OSError as error:
            raise SignInRequiredError(f"the key cannot be read: {error}") from error

    def _own_device(self) -> str:
        """The id of this device, made before its first sign-in: an answer that is lost makes no second device."""
        if not self._device_file.exists():
            write_private(self._device_file, str(uuid4()).encode())
        return self._device_file.read_text().strip()
