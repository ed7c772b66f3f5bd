"""What a person asks of commerce itself: orders, top-ups, withdrawals, addresses. Payments are calls of `Client`."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

import httpx
import msgspec

from protocol.commerce.contract import IDEMPOTENCY_HEADER, request_digest
from protocol.errors import ErrorCode
from protocol.replies import Failed
from tchat.actions import RefusedError, RequestLostError
from tchat.connections import TokenSource

_TIMEOUT_S = 10.0
_NEEDS_TOKEN = frozenset({ErrorCode.TOKEN_INVALID, ErrorCode.TOKEN_EXPIRED})


class _Token(msgspec.Struct):
    token: str


class _RefusedRequest(msgspec.Struct):
    code: str
    message: str = ""
    retry_after_s: float | None = None


class CommerceApi:
    """Asks the commerce at `url` for a person who is signed in at the chat at `server`; used with `async with`.

    Reads carry an access token, steps a token that the chat signs for that one request. Paths are those of
    `docs/commerce.json`.
    """

    def __init__(self, server: str, url: str, token: TokenSource) -> None:
        self._server = server.rstrip("/")
        self._url = httpx.URL(url.rstrip("/"))
        self._token = token
        self._http = httpx.AsyncClient(timeout=_TIMEOUT_S, follow_redirects=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def get(self, path: str) -> Any:
        """What a path such as "/v1/orders?limit=10" says; raises RefusedError, RequestLostError, what a source does."""
        return await self._with_access("GET", f"{self._url}{path}", b"")

    async def post(self, path: str, body: dict[str, Any] | None = None, *, key: str) -> Any:
        """Take a step, and return its answer; raises as `get` does.

        `key` is the idempotency key. Whoever must not order twice stores it first: after RequestLostError, or a crash,
        the same call with the same key gets the answer of the first.
        """
        content = b"" if body is None else msgspec.json.encode(body)
        url = self._url.copy_with(raw_path=self._url.raw_path.rstrip(b"/") + path.encode())
        digest = request_digest("POST", url.raw_path.decode(), key, content)
        wish = msgspec.json.encode({"digest": digest})
        answer = await self._with_access("POST", f"{self._server}/v1/commerce-tokens", wish)
        try:
            token = msgspec.convert(answer, _Token).token
        except msgspec.ValidationError:
            raise RequestLostError("the chat answers without a token") from None
        return await self._ask("POST", str(url), token, {IDEMPOTENCY_HEADER: key}, content)

    async def _with_access(self, method: str, url: str, content: bytes) -> Any:
        """Ask with an access token, and once more with a new one."""
        try:
            return await self._ask(method, url, await self._token(False), {}, content)
        except RefusedError as refused:
            if refused.failed.code not in _NEEDS_TOKEN:
                raise
        return await self._ask(method, url, await self._token(True), {}, content)

    async def _ask(self, method: str, url: str, bearer: str, headers: dict[str, str], content: bytes) -> Any:
        sent = headers | {"authorization": f"Bearer {bearer}"}
        if content:
            sent["content-type"] = "application/json"
        try:
            answer = await self._http.request(method, url, headers=sent, content=content)
        except httpx.RequestError as error:
            raise RequestLostError(str(error)) from error
        try:
            if answer.is_success:
                return msgspec.json.decode(answer.content) if answer.content else None
            refusal = msgspec.json.decode(answer.content, type=_RefusedRequest)
        except msgspec.MsgspecError:
            raise RequestLostError(f"status {answer.status_code}, which is no answer of commerce") from None
        raise RefusedError(Failed(0, refusal.code, refusal.message, refusal.retry_after_s))
