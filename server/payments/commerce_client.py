"""One request to commerce and its answer, as `protocol/commerce/contract.py` says.

Invariants: a request carries a token for itself alone (`request_digest`). No redirect is followed, no proxy of the
environment is used, and of an answer at most ANSWER_BYTES_MAX are read. Whatever is not an answer of the contract is
`unavailable`: whether something happened is not known, and the same request may be sent again. It is logged once,
without its content, until an answer of the contract comes.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Annotated

import httpx
import msgspec

from protocol.commerce.contract import IDEMPOTENCY_HEADER, PaymentReply, request_digest
from protocol.commerce.payment_states import STATES_BY_TEXT
from protocol.errors import ErrorCode
from protocol.payment_commands import OF_COMMERCE
from server.config.payment_settings import CommerceSettings
from server.identity.claims import Claims
from server.payments.commerce_request import CommerceRequest
from server.payments.commerce_tokens import CommerceTokens
from server.refusals import RETRY_AFTER_S, RequestRefusedError
from server.trusted import read_trusted

_log = logging.getLogger(__name__)

ANSWER_BYTES_MAX = 16_384
_RETRY_AFTER_S_MAX = 86_400


class _RefusedByCommerce(msgspec.Struct):
    """What commerce refuses with."""

    code: str
    retry_after_s: Annotated[float, msgspec.Meta(ge=0, le=_RETRY_AFTER_S_MAX)] | None = None


class _StrangeAnswerError(Exception):
    """Not an answer of the contract; the text says what is wrong, and nothing of what it contains."""


class CommerceClient:
    """Calls the commerce at `settings.url`, over at most `settings.calls_max` connections."""

    def __init__(self, settings: CommerceSettings, tokens: CommerceTokens) -> None:
        self._tokens = tokens
        self._base = httpx.URL(settings.url)
        self._prefix = self._base.raw_path.decode("ascii").rstrip("/")
        self._trouble = False
        self._client = httpx.AsyncClient(
            timeout=settings.timeout_s,
            limits=httpx.Limits(max_connections=settings.calls_max, max_keepalive_connections=settings.calls_max),
            follow_redirects=False,
            trust_env=False,
            verify=read_trusted(),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def call(
        self, claims: Claims, request: CommerceRequest, deadline: float, device_key: bytes | None = None
    ) -> PaymentReply:
        """The payment after a request of this person's device; raises RequestRefusedError.

        `deadline` is a time of the loop: until then there is an answer, or it is `unavailable`. `device_key` is the
        public key with which the device has signed what it asks.
        """
        try:
            async with asyncio.timeout_at(deadline):
                status, body = await self._exchange(self._build(claims, request, device_key))
            answer = _read(status, body, request)
        except (TimeoutError, OSError, httpx.HTTPError, _StrangeAnswerError) as error:
            self._note_trouble(error)
            raise RequestRefusedError(ErrorCode.UNAVAILABLE, retry_after_s=RETRY_AFTER_S) from error
        self._trouble = False
        if isinstance(answer, _RefusedByCommerce):
            code = ErrorCode(answer.code)
            retry_after_s = answer.retry_after_s or RETRY_AFTER_S
            raise RequestRefusedError(code, retry_after_s=retry_after_s if code.temporary else None)
        return answer

    def _build(self, claims: Claims, request: CommerceRequest, device_key: bytes | None) -> httpx.Request:
        path, body = self._prefix + request.path, request.body
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if request.key:
            headers[IDEMPOTENCY_HEADER] = request.key
        if body:
            headers["content-type"] = "application/json"
        digest = request_digest(request.method, path, request.key, body)
        headers["authorization"] = f"Bearer {self._tokens.sign(claims, digest, device_key)}"
        url = self._base.copy_with(raw_path=path.encode("ascii"))
        return self._client.build_request(request.method, url, headers=headers, content=body)

    async def _exchange(self, request: httpx.Request) -> tuple[int, bytes]:
        response = await self._client.send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > ANSWER_BYTES_MAX:
                    raise _StrangeAnswerError(f"it has more than {ANSWER_BYTES_MAX} bytes")
            return response.status_code, bytes(body)
        finally:
            await response.aclose()

    def _note_trouble(self, error: Exception) -> None:
        if not self._trouble:
            said = (
                f"answers what is not of the contract: {error}"
                if isinstance(error, _StrangeAnswerError)
                else (f"does not answer: {type(error).__name__}")
            )
            _log.warning("commerce %s", said)
        self._trouble = True


def _read(status: int, body: bytes, request: CommerceRequest) -> PaymentReply | _RefusedByCommerce:
    try:
        if status in (httpx.codes.OK, httpx.codes.CREATED):
            reply = msgspec.json.decode(body, type=PaymentReply)
        else:
            refusal = msgspec.json.decode(body, type=_RefusedByCommerce)
            if refusal.code in OF_COMMERCE:
                return refusal
            raise _StrangeAnswerError(f"status {status} with another code")
    except msgspec.MsgspecError:  # its text may quote what it found
        raise _StrangeAnswerError(f"status {status} with another body") from None
    if reply.state not in STATES_BY_TEXT:
        raise _StrangeAnswerError("a payment in an unknown state")
    if not request.is_about(reply):
        raise _StrangeAnswerError("another payment than the one that was asked for")
    return reply
