"""Calls an implementation of the contract of commerce as the chat does, and looks at every answer."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import httpx
import jwt
import msgspec

from protocol.commerce.contract import AUDIENCE, IDEMPOTENCY_HEADER, TOKEN_LIFE_S, request_digest
from protocol.errors import ErrorCode
from protocol.ids import new_id
from server.identity.signing_keys import SigningKeys

_INSIDE = ("Traceback", 'File "', "asyncpg", "SELECT ")


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """An implementation, the key of its chat, and three people with wallets in one currency."""

    url: str
    keys: SigningKeys
    payer: UUID
    payee: UUID
    poor: UUID
    currency: str = "THB"
    tenant: int = 1


class Caller:
    """Sends requests with tokens; counts what an implementation must never answer."""

    def __init__(self, client: httpx.AsyncClient, deployment: Deployment) -> None:
        self.on = deployment
        self.stranger = new_uuid()
        self.server_errors = 0
        self._client = client
        self._device = new_uuid()

    async def ask(
        self,
        who: UUID,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = "",
        content: bytes | None = None,
        **changed: Any,
    ) -> httpx.Response:
        """A request with a token for it; `key` None: without one. `changed` are claims; None leaves one out."""
        content = content if content is not None else b"" if body is None else msgspec.json.encode(body)
        if key == "":
            key = str(new_uuid()) if method == "POST" else None
        path = f"/v1/{path}"
        token = self.sign(who, **{"digest": request_digest(method, path, key or "", content), **changed})
        headers = {"authorization": f"Bearer {token}"}
        if key is not None:
            headers[IDEMPOTENCY_HEADER] = key
        if content:
            headers["content-type"] = "application/json"
        answer = await self._client.request(method, path, content=content, headers=headers)
        self._look_at(answer)
        return answer

    def sign(self, who: UUID, *, keys: SigningKeys | None = None, **changed: Any) -> str:
        """A token for one request."""
        keys, now_s = keys or self.on.keys, int(time.time())
        claims = {
            "aud": AUDIENCE,
            "sub": str(who),
            "tenant": self.on.tenant,
            "device": str(self._device),
            "iat": now_s,
            "exp": now_s + TOKEN_LIFE_S,
            "jti": str(new_uuid()),
        } | changed
        said = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(said, keys.signing, algorithm="EdDSA", headers={"kid": keys.kid})

    async def pay(self, who: UUID, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """A step of a payment: "" begins one."""
        return await self.ask(who, "POST", f"payments/{path}" if path else "payments", body, **more)

    async def begin(self, intent: str, amount: int = 10, **more: Any) -> dict[str, Any]:
        """A payment from payer to payee that begins."""
        who = self.on.payer if intent == "send" else self.on.payee
        answer = await self.pay(who, "", self.new(intent, amount, **more))
        assert answer.status_code == httpx.codes.CREATED, answer.text
        payment: dict[str, Any] = answer.json()
        return payment

    def new(self, intent: str, amount: int = 10, **more: Any) -> dict[str, Any]:
        """The body of a payment from payer to payee."""
        on = self.on
        named = {"payer": on.payer, "payee": on.payee, "currency": on.currency}
        return {"intent": intent, "amount_minor": amount, **named, **more}

    async def state(self, payment: dict[str, Any]) -> dict[str, Any]:
        """A payment as the payee reads it now."""
        answer = await self.ask(self.on.payee, "GET", f"payments/{payment['id']}")
        assert answer.status_code == httpx.codes.OK, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def _look_at(self, answer: httpx.Response) -> None:
        if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR or any(text in answer.text for text in _INSIDE):
            self.server_errors += 1
        if answer.is_error:
            body = answer.json()
            assert set(body) >= {"code", "message", "retry_after_s"}, body
            assert body["code"] in set(ErrorCode), body


def seen(payment: dict[str, Any], **changed: Any) -> dict[str, Any]:
    """An approval of what a payment says."""
    return {name: payment[name] for name in ("version", "amount_minor", "currency", "payee")} | changed


def code(answer: httpx.Response) -> str:
    """The code of a refusal; of what was done, its status."""
    return str(answer.json()["code"]) if answer.is_error else str(answer.status_code)


def new_uuid() -> UUID:
    """An id that nobody has."""
    return UUID(bytes=new_id())
