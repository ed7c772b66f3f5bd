"""The chat's HTTP API, as far as the relay calls it, and what each answer means for a number.

Invariants: of all answers only those of `_FINAL` are a refusal for ever. Whatever else comes is no answer about this
number: the same request is sent again later. That holds for a refused key, too, which an operator puts right, and for
what this version does not know. No redirect is followed, no proxy of the environment is used, and of an answer at most
ANSWER_BYTES_MAX are read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Literal, TypeVar
from uuid import UUID

import httpx
import msgspec

from protocol.errors import ErrorCode
from protocol.ids import to_text
from server.relay.place_notices import make_event
from server.trusted import read_trusted
from storage.commerce.announcement_rows import Announced, Fate, LeasedPlace, Numbered

ANSWER_BYTES_MAX = 524_288
TIMEOUT_S = 5.0

_FINAL = frozenset(
    {
        ErrorCode.DIALOG_NOT_FOUND,
        ErrorCode.PRINCIPAL_NOT_FOUND,
        ErrorCode.BLOCKED,
        ErrorCode.ROLE_REQUIRED,
        ErrorCode.SUSPENDED,
    }
)
_PASSED = frozenset({ErrorCode.NUMBER_PASSED, ErrorCode.CONFLICT})
_OF_THE_KEY = frozenset({ErrorCode.TOKEN_INVALID, ErrorCode.NOT_ALLOWED, ErrorCode.SUSPENDED})
_OF_THE_PLACE = frozenset({ErrorCode.UNAVAILABLE, ErrorCode.RATE_LIMITED})


_Wanted = TypeVar("_Wanted")


class NoAnswerError(Exception):
    """Nothing is known of what was asked: ask again. `everywhere`: it would be the same for every place."""

    def __init__(self, why: str, *, everywhere: bool, retry_after_s: float = 0.0) -> None:
        super().__init__(why)
        self.everywhere = everywhere
        self.retry_after_s = retry_after_s


class ModeRefusedError(Exception):
    """There is no such dialog."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(str(code))
        self.code = code


class _RefusedByChat(msgspec.Struct):
    code: str
    retry_after_s: float | None = None


class _ModeAnswer(msgspec.Struct):
    mode: Literal["sealed", "open"]


class _EpochAnswer(msgspec.Struct):
    epoch: int


class PostedPlace(msgspec.Struct):
    """A dialog in which the relay has posted, and its highest number; `principal`: it is their `self` dialog."""

    dialog: UUID
    last_n: int
    principal: UUID | None = None

    @property
    def subject(self) -> bytes:
        """The person, or the dialog."""
        return (self.principal or self.dialog).bytes


class PostedPlaces(msgspec.Struct):
    """A page of them; `after` is for the next one, None at the end."""

    dialogs: list[PostedPlace]
    after: UUID | None


class PostedRef(msgspec.Struct):
    """What an event is about."""

    type: str
    id: str


class PostedEvent(msgspec.Struct):
    """What the relay has posted under a number; `payload` is None when it was erased."""

    n: int
    content_type: str = ""
    ref: PostedRef | None = None
    payload: bytes | None = None


class _PostedEvents(msgspec.Struct):
    events: list[PostedEvent]


class _Taken(msgspec.Struct):
    seq: int


class ChatApi:
    """Calls the chat at `url`, over at most `connections`. `read_key` gives the API key, anew after a refusal of it."""

    def __init__(
        self,
        url: str,
        read_key: Callable[[], str],
        *,
        connections: int,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._read_key = read_key
        self._key = ""
        self._client = httpx.AsyncClient(
            base_url=url,
            timeout=TIMEOUT_S,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            follow_redirects=False,
            trust_env=False,
            verify=read_trusted(),
            transport=transport,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def post(self, place: LeasedPlace, row: Numbered, *, sealed: bool) -> Fate:
        """Post a version in a place; raises NoAnswerError."""
        subject = to_text(place.subject)
        path = f"/v1/principals/{subject}/self/events" if place.is_self else f"/v1/dialogs/{subject}/events"
        answer = await self._ask("POST", path, _Taken, make_event(place, row, sealed=sealed))
        if isinstance(answer, _Taken):
            return Fate(row.n, Announced.TAKEN)
        if answer in _PASSED:
            return Fate(row.n, Announced.PASSED, str(answer))
        if answer is ErrorCode.SUSPENDED:
            await self.read_epoch()  # raises if it is the relay that is suspended, and not who began the payment
        return Fate(row.n, Announced.REFUSED, str(answer))

    async def is_sealed(self, dialog: bytes) -> bool:
        """Whether only endpoints can read a dialog; raises NoAnswerError, and ModeRefusedError if there is none."""
        answer = await self._ask("GET", f"/v1/dialogs/{to_text(dialog)}/mode", _ModeAnswer)
        if isinstance(answer, _ModeAnswer):
            return answer.mode == "sealed"
        raise ModeRefusedError(answer)

    async def read_epoch(self) -> int:
        """The epoch of the chat; raises NoAnswerError."""
        answer = await self._ask("GET", "/v1/epoch", _EpochAnswer)
        if isinstance(answer, _EpochAnswer):
            return answer.epoch
        raise self._no_key(answer)

    async def list_places(self, after: bytes) -> PostedPlaces:
        """Where the relay has posted, behind a dialog: a page, which may be empty; raises NoAnswerError."""
        answer = await self._ask("GET", f"/v1/posted-dialogs?after={to_text(after)}", PostedPlaces)
        if isinstance(answer, PostedPlaces):
            return answer
        raise self._no_key(answer)

    async def list_posted(self, place: PostedPlace, before_n: int) -> list[PostedEvent]:
        """What it has posted there under numbers below one, newest first: a page; empty at the end. NoAnswerError."""
        answer = await self._ask("GET", f"/v1/dialogs/{place.dialog}/posted-events?before_n={before_n}", _PostedEvents)
        if isinstance(answer, _PostedEvents):
            return answer.events
        raise self._no_key(answer)

    async def _ask(self, method: str, path: str, wanted: type[_Wanted], body: Any = None) -> _Wanted | ErrorCode:
        """The answer, or the code of a refusal that is about this request."""
        try:
            self._key = self._key or self._read_key()
        except (OSError, ValueError) as error:
            raise NoAnswerError(f"the API key cannot be read: {error}", everywhere=True) from error
        try:
            async with asyncio.timeout(TIMEOUT_S):
                status, content = await self._exchange(method, path, body)
            if status == httpx.codes.OK:
                return msgspec.json.decode(content, type=wanted)
            refusal = msgspec.json.decode(content, type=_RefusedByChat)
            code = ErrorCode(refusal.code)
        except (TimeoutError, OSError, httpx.HTTPError, msgspec.MsgspecError, ValueError) as error:
            raise NoAnswerError(f"the chat does not answer: {type(error).__name__}", everywhere=True) from error
        if code in _FINAL | _PASSED and not (code in _OF_THE_KEY and method == "GET"):
            return code
        if code in _OF_THE_KEY:
            raise self._no_key(code)
        raise NoAnswerError(
            f"the chat answers {code}", everywhere=code not in _OF_THE_PLACE, retry_after_s=refusal.retry_after_s or 0.0
        )

    def _no_key(self, code: ErrorCode) -> NoAnswerError:
        self._key = ""
        return NoAnswerError(f"the chat refuses the API key of the relay: {code}", everywhere=True)

    async def _exchange(self, method: str, path: str, body: Any) -> tuple[int, bytes]:
        headers = {"authorization": f"Bearer {self._key}", "accept-encoding": "identity"}
        request = self._client.build_request(method, path, json=body, headers=headers)
        response = await self._client.send(request, stream=True)
        try:
            content = bytearray()
            async for chunk in response.aiter_raw():
                content += chunk
                if len(content) > ANSWER_BYTES_MAX:
                    raise ValueError("the answer is too long")
            return response.status_code, bytes(content)
        finally:
            await response.aclose()
