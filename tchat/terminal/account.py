"""The sign-in of this installation: tokens in a file that only its owner can read, refreshed over the HTTP API.

Invariant: a refresh token is on disk before the access token that came with it is used, since the older one is invalid.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import msgspec

from tchat.actions import SignInRequiredError, TokenUnavailableError
from tchat.private_file import write_private

_VERSION = "0.1"
_RENEW_BEFORE_S = 60.0
_TIMEOUT_S = 15.0


class Refusal(msgspec.Struct):
    """The body of every refusal of the HTTP API."""

    code: str = "internal"
    message: str = "The answer of the server cannot be read."
    retry_after_s: float | None = None


class ApiError(Exception):
    """The HTTP API refused; `refusal.message` is for people."""

    def __init__(self, status: int, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.status = status
        self.refusal = refusal


class TokensAnswer(msgspec.Struct):
    """The answer to sign-in and refresh."""

    principal: UUID
    device: UUID
    access_token: str
    expires_in_s: float
    refresh_token: str


class CodeAnswer(msgspec.Struct):
    """The answer to a request for a code; an older server gives no id."""

    code_id: UUID | None = None


class PersonAnswer(msgspec.Struct):
    """The answer to a search for a person, as far as it is used here."""

    principal: UUID
    display_name: str


class SignInAnswer(msgspec.Struct):
    """A live sign-in of this person, as far as it is used here; its texts are what that device has said of itself."""

    sign_in: UUID
    device: UUID
    platform: str
    name: str
    last_used_at_ms: int


class SavedSignIn(msgspec.Struct):
    """The content of the file."""

    principal: UUID
    device: UUID
    access_token: str
    access_until: float
    refresh_token: str


class LocalAccount:
    """One person's account at one server: its sign-in, and requests to the HTTP API in its name."""

    def __init__(self, folder: Path, http: httpx.AsyncClient) -> None:
        self._path = folder / "account.json"
        self._http = http
        self._saved: SavedSignIn | None = None
        self._code_id: UUID | None = None

    @property
    def saved(self) -> SavedSignIn | None:
        """The current sign-in; None before `load` or `sign_in` found one."""
        return self._saved

    def load(self) -> None:
        """Read the sign-in of an earlier run, if there is a readable one."""
        try:
            self._saved = msgspec.json.decode(self._path.read_bytes(), type=SavedSignIn)
        except (FileNotFoundError, msgspec.MsgspecError):
            self._saved = None

    async def send_code(self, phone_number: str) -> None:
        """Request a sign-in code; raises ApiError."""
        answer = await self._post("/v1/sign-in/codes", {"phone_number": phone_number})
        self._code_id = msgspec.json.decode(answer.content, type=CodeAnswer).code_id

    async def sign_in(self, phone_number: str, code: str, name: str) -> None:
        """Sign in with the received code, as the same device as before if there was one; raises ApiError."""
        device = {"platform": "terminal", "app_version": _VERSION}
        if self._saved is not None:
            device["device_id"] = str(self._saved.device)
        fields: dict[str, Any] = {"phone_number": phone_number, "code": code, "device": device}
        if self._code_id is not None:
            fields["code_id"] = str(self._code_id)
        if name:
            fields["display_name"] = name
        self._keep(await self._post("/v1/sign-in", fields))

    async def token(self, fresh: bool) -> str:
        """An access token, a new one if `fresh`; raises SignInRequiredError or TokenUnavailableError."""
        if self._saved is None:
            raise SignInRequiredError("nobody is signed in")
        if fresh or time.time() > self._saved.access_until - _RENEW_BEFORE_S:
            await self._refresh(self._saved.refresh_token)
        return self._saved.access_token

    def expire(self) -> None:
        """Use the access token no more: the server does not take it."""
        if self._saved is not None:
            self._saved.access_until = 0.0
            write_private(self._path, msgspec.json.encode(self._saved))

    async def find(self, phone_number: str) -> PersonAnswer:
        """The person with exactly this number; raises ApiError."""
        answer = await self._post("/v1/people/find", {"phone_number": phone_number}, await self.token(False))
        return msgspec.json.decode(answer.content, type=PersonAnswer)

    async def person(self, principal: bytes) -> PersonAnswer:
        """A person with whom the account shares a dialog; raises ApiError."""
        answer = await self._ask("GET", f"/v1/people/{UUID(bytes=principal)}")
        return msgspec.json.decode(answer.content, type=PersonAnswer)

    async def sign_ins(self) -> list[SignInAnswer]:
        """The live sign-ins of this person; raises ApiError."""
        return msgspec.json.decode((await self._ask("GET", "/v1/sign-ins")).content, type=list[SignInAnswer])

    async def end_sign_in(self, sign_in: UUID) -> None:
        """Sign a device of this person out; raises ApiError."""
        await self._ask("DELETE", f"/v1/sign-ins/{sign_in}")

    async def _ask(self, method: str, path: str) -> httpx.Response:
        headers = {"authorization": f"Bearer {await self.token(False)}"}
        answer = await self._http.request(method, path, headers=headers, timeout=_TIMEOUT_S)
        _check(answer)
        return answer

    async def _refresh(self, refresh_token: str) -> None:
        try:
            self._keep(await self._post("/v1/tokens/refresh", {"refresh_token": refresh_token}))
        except httpx.TransportError as error:
            raise TokenUnavailableError(str(error)) from error
        except ApiError as error:
            if error.status in (401, 403):
                raise SignInRequiredError(error.refusal.message) from error
            raise TokenUnavailableError(error.refusal.message) from error

    async def _post(self, path: str, body: dict[str, Any], token: str | None = None) -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        answer = await self._http.post(path, json=body, headers=headers, timeout=_TIMEOUT_S)
        _check(answer)
        return answer

    def _keep(self, answer: httpx.Response) -> None:
        signed_in = msgspec.json.decode(answer.content, type=TokensAnswer)
        self._saved = SavedSignIn(
            signed_in.principal,
            signed_in.device,
            signed_in.access_token,
            time.time() + signed_in.expires_in_s,
            signed_in.refresh_token,
        )
        write_private(self._path, msgspec.json.encode(self._saved))


def _check(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    try:
        refusal = msgspec.json.decode(answer.content, type=Refusal)
    except msgspec.MsgspecError:
        refusal = Refusal()
    raise ApiError(answer.status_code, refusal)
