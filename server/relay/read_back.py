"""Reads back what the chat was told, when the books were restored and do not know it.

Invariants: the books are read-only meanwhile, so nothing is posted. A place is read from its newest number down to the
last one that the books know; then its numbers are raised. What is cut short begins again with the same page of dialogs:
places that are read already are skipped, because their numbers are not higher any more.

What has left the chat's journal for an archive is not read: that is older than any backup that should be restored.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar
from uuid import UUID

import msgspec

from protocol.commerce.payment_notice import CONTENT_TYPE, decode_notice
from protocol.commerce.payment_states import STATES_BY_TEXT
from server.clock import Sleep
from server.relay.chat_api import ChatApi, NoAnswerError, PostedEvent, PostedPlace
from server.steps import step_by_step
from storage.commerce.restored_books import RestoredBooks, ToldVersion

_log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
PAUSE_S = 1.0

_Read = TypeVar("_Read")


class ReadBack:
    """The reading of one tenant. Several relays may read at once: each notes the same."""

    def __init__(self, books: RestoredBooks, chat: ChatApi, tenant: int, *, sleep: Sleep = asyncio.sleep) -> None:
        self._books = books
        self._chat = chat
        self._tenant = tenant
        self._sleep = sleep

    async def run(self) -> None:
        """Read whenever the books were restored, until cancelled."""
        could_not = "could not read back what the chat was told"
        await step_by_step(self.step, _log, could_not, interval_s=LOOK_EVERY_S, sleep=self._sleep, rest_s=0)

    async def step(self) -> bool:
        """A page of dialogs; whether there may be more."""
        after = await self._books.begin_reading(self._tenant)
        if after is None:
            return False
        page = await self._insist(functools.partial(self._chat.list_places, after))
        known = await self._books.read_numbers(self._tenant, [each.subject for each in page.dialogs])
        for place in page.dialogs:
            await self._read(place, known)
        await self._books.note_reading(self._tenant, None if page.after is None else page.after.bytes)
        if page.after is None:
            _log.warning("what the chat was told is read back: see `tchat commerce reconcile`")
        return page.after is not None

    async def _read(self, place: PostedPlace, known: Mapping[tuple[bool, bytes], int]) -> None:
        is_self = place.principal is not None
        known_n = known.get((is_self, place.subject), 0)
        before_n = place.last_n + 1
        while before_n > known_n + 1:
            events = await self._insist(functools.partial(self._chat.list_posted, place, before_n))
            before_n = events[-1].n if events else 0
            await self._books.note_told(
                self._tenant,
                is_self=is_self,
                subject=place.subject,
                told=_read_notices([each for each in events if each.n > known_n]),
                last_n=0 if before_n > known_n + 1 else place.last_n,
            )

    async def _insist(self, ask: Callable[[], Awaitable[_Read]]) -> _Read:
        """Ask until there is an answer: to begin a place again with each refusal would never end a long one."""
        while True:
            try:
                return await ask()
            except NoAnswerError as error:
                _log.warning("what the chat was told cannot be read back now: %s", error)
                await self._sleep(max(error.retry_after_s, PAUSE_S))


def _read_notices(events: Sequence[PostedEvent]) -> list[ToldVersion]:
    told = []
    for event in events:
        if event.payload is None or event.ref is None or event.content_type != CONTENT_TYPE:
            continue
        try:
            notice = decode_notice(event.payload, (event.ref.type, event.ref.id))
        except msgspec.MsgspecError:
            _log.warning("number %d is no notice of a payment", event.n)
            continue
        told.append(
            ToldVersion(
                payment=notice.payment.bytes,
                version=notice.version,
                n=event.n,
                state=None if notice.state is None else STATES_BY_TEXT.get(notice.state),
                payer=_bytes_of(notice.payer),
                payee=_bytes_of(notice.payee),
                currency=notice.currency,
                amount=notice.amount_minor,
                dialog=_bytes_of(notice.dialog),
                order=_bytes_of(notice.order),
            )
        )
    return told


def _bytes_of(given: UUID | None) -> bytes | None:
    return None if given is None else given.bytes
