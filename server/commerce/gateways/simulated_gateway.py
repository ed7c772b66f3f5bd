"""The engine of a plain gateway over HTTP: the one that tests simulate, and the example for engines of real ones.

How an answer is judged, when money may have moved:

| seen | is |
|---|---|
| no connection, or 401, 403, 429 | unavailable: it was not carried out |
| 200, 201 with an object that is what was asked for | that object |
| 400, 402, 404, 422 with a code | a refusal |
| all else: no answer in time, half an answer, 409, 5xx, another object | unknown |
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeVar

import httpx
import msgspec

from server.clock import Clock
from server.commerce.gateways.gateway_contract import (
    Answer,
    ChargeCall,
    FateUnknown,
    Gateway,
    GatewayCall,
    GatewayRefusal,
    GatewayUnavailableError,
    ObjectPage,
    PayoutCall,
    RefundCall,
    WebhookHint,
)
from server.commerce.gateways.gateway_objects import GatewayObject, ObjectId, ObjectKind, Reason
from server.commerce.gateways.webhook_reading import WebhookRefusedError, check_webhook, read_secret
from server.trusted import read_trusted

_log = logging.getLogger(__name__)
T = TypeVar("T")

ANSWER_BYTES_MAX = 1_048_576
_CONNECTIONS_MAX = 20
_RETRY_AFTER_S_MAX = 300
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_NOT_DONE = frozenset({401, 403, 429})
_MADE = frozenset({200, 201})
_REFUSED = frozenset({400, 402, 404, 422})


class GatewayAccess(msgspec.Struct, frozen=True, kw_only=True):
    """Where a gateway is, who we are to it, and what it promises.

    `timeout_s` bounds a whole call. Half of it may pass without a connection: then it is known that nothing was sent.
    """

    url: str
    api_key: str
    webhook_secret: str
    key_window_s: int = 23 * 3600
    settle_s: int = 60
    timeout_s: float = 10.0

    def __repr__(self) -> str:
        return f"GatewayAccess(url={self.url!r})"  # its secrets are in no traceback and no log


class _RefusalBody(msgspec.Struct, frozen=True):
    code: Reason


class _WebhookData(msgspec.Struct, frozen=True):
    kind: str
    id: ObjectId


class _WebhookBody(msgspec.Struct, frozen=True):
    data: _WebhookData


class _HttpAnswer(NamedTuple):
    status: int
    retry_after: str
    content: bytes


class _NoAnswerError(Exception):
    """The request may have arrived, and there is no answer to it."""


class _BadFormError(Exception):
    """What the gateway sent has not the form."""


class SimulatedGateway(Gateway):
    """One merchant's access to such a gateway."""

    def __init__(self, name: str, access: GatewayAccess, clock: Clock) -> None:
        """Raises StartupError if the webhook secret has not the form."""
        self._name = name
        self._access = access
        self._clock = clock
        self._webhook_key = read_secret(access.webhook_secret)
        self._client = httpx.AsyncClient(
            base_url=access.url,
            headers={"authorization": f"Bearer {access.api_key}", "accept-encoding": "identity"},
            timeout=httpx.Timeout(access.timeout_s, connect=access.timeout_s / 2, pool=access.timeout_s / 2),
            follow_redirects=False,
            trust_env=False,
            verify=read_trusted(),
            limits=httpx.Limits(max_connections=_CONNECTIONS_MAX),
        )

    @property
    def name(self) -> str:
        return self._name

    @property
    def key_window_s(self) -> int:
        return self._access.key_window_s

    @property
    def settle_s(self) -> int:
        return self._access.settle_s

    async def aclose(self) -> None:
        await self._client.aclose()

    async def charge(self, call: ChargeCall) -> Answer:
        more = {"method": call.method, "source": call.source, "expires_in_s": call.expires_in_s}
        return await self._move(ObjectKind.CHARGE, "/v1/charges", call, more)

    async def refund(self, call: RefundCall) -> Answer:
        return await self._move(ObjectKind.REFUND, "/v1/refunds", call, {"parent": call.parent})

    async def payout(self, call: PayoutCall) -> Answer:
        return await self._move(ObjectKind.PAYOUT, "/v1/payouts", call, {"destination": call.destination})

    async def fetch(self, kind: ObjectKind, object_id: str) -> GatewayObject | None:
        page = await self._read({"id": object_id})
        return next((found for found in page.objects if (found.kind, found.id) == (kind, object_id)), None)

    async def find(self, kind: ObjectKind, reference: str) -> list[GatewayObject]:
        page = await self._read({"reference": reference})
        return [found for found in page.objects if (found.kind, found.reference) == (kind, reference)]

    async def list_changed(self, since_ms: int, until_ms: int, page: str | None = None) -> ObjectPage:
        window = {"since_ms": str(since_ms), "until_ms": str(until_ms)}
        return await self._read(window if page is None else {**window, "page": page})

    def read_webhook(self, headers: Mapping[str, str], body: bytes) -> WebhookHint | None:
        check_webhook(self._webhook_key, headers, body, self._clock.wall_ms())
        try:
            data = _decode(body, _WebhookBody).data
        except _BadFormError as error:
            raise WebhookRefusedError("genuine, but without the kind and id of an object") from error
        return WebhookHint(ObjectKind(data.kind), data.id) if data.kind in list(ObjectKind) else None

    async def _move(self, kind: ObjectKind, path: str, call: GatewayCall, more: dict[str, Any]) -> Answer:
        """Have money moved, or not; what is not known for sure is FateUnknown."""
        if self._clock.wall_ms() - call.written_at_ms >= self.key_window_s * 1000:
            return FateUnknown("the intent is older than the key window")
        given = {"reference": call.reference, "amount_minor": call.amount_minor, "currency": call.currency}
        body = {**given, **{name: value for name, value in more.items() if value is not None}}
        try:
            answer = await self._request(
                "POST", path, content=msgspec.json.encode(body), headers={"content-type": "application/json"}
            )
            if answer.status in _REFUSED:
                return GatewayRefusal(_decode(answer.content, _RefusalBody).code)
            if answer.status in _MADE:
                made = _decode(answer.content, GatewayObject)
                if _is_what_was_asked(made, kind, call, more):
                    return made
        except (_NoAnswerError, _BadFormError) as error:
            return FateUnknown(str(error))
        return FateUnknown(f"the answer {answer.status} does not say what happened")

    async def _read(self, query: Mapping[str, str]) -> ObjectPage:
        """Some objects; raises GatewayUnavailableError. Only an answer that lists none says that there is none."""
        try:
            answer = await self._request("GET", "/v1/objects", params=query)
            if answer.status == httpx.codes.OK:
                return _decode(answer.content, ObjectPage)
        except (_NoAnswerError, _BadFormError) as error:
            raise GatewayUnavailableError(str(error)) from error
        raise GatewayUnavailableError(f"the answer is {answer.status}")

    async def _request(self, method: str, path: str, **more: Any) -> _HttpAnswer:
        """One request; raises GatewayUnavailableError if it is not carried out, _NoAnswerError if that is not known."""
        try:
            async with asyncio.timeout(self._access.timeout_s):
                answer = await self._send(method, path, **more)
        except _NOT_SENT as error:
            raise GatewayUnavailableError(f"not reached: {type(error).__name__}") from error
        except (TimeoutError, httpx.HTTPError) as error:
            raise _NoAnswerError(f"no answer: {type(error).__name__}") from error
        if answer.status in _NOT_DONE:
            if answer.status != httpx.codes.TOO_MANY_REQUESTS:
                _log.error("gateway %s refuses our API key (%d): set the right one", self._name, answer.status)
            raise GatewayUnavailableError(f"the answer is {answer.status}", _seconds(answer.retry_after))
        return answer

    async def _send(self, method: str, path: str, **more: Any) -> _HttpAnswer:
        content = bytearray()
        async with self._client.stream(method, path, **more) as response:
            async for part in response.aiter_raw():  # not decompressed: a small answer stays small
                content += part
                if len(content) > ANSWER_BYTES_MAX:
                    raise _NoAnswerError(f"an answer of more than {ANSWER_BYTES_MAX} bytes")
        return _HttpAnswer(response.status_code, response.headers.get("retry-after", ""), bytes(content))


def _decode(content: bytes, form: type[T]) -> T:
    """What is in an answer: here the names of the wire are ours. An engine of a real gateway maps its own."""
    try:
        return msgspec.json.decode(content, type=form)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise _BadFormError(f"not a {form.__name__}: {type(error).__name__}") from error


def _is_what_was_asked(made: GatewayObject, kind: ObjectKind, call: GatewayCall, more: Mapping[str, Any]) -> bool:
    asked = (kind, call.reference, call.amount_minor, call.currency, more.get("parent"))
    return asked == (made.kind, made.reference, made.amount_minor, made.currency, made.parent)


def _seconds(header: str) -> int:
    """How long to wait by a header Retry-After, bounded; 1 if it says no seconds."""
    return min(max(int(header), 1), _RETRY_AFTER_S_MAX) if header.isascii() and header.isdigit() else 1
