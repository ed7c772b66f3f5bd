"""Posts the events of bots to their webhooks: one node does it for all.

Invariants:

- An event is posted until the receiver takes it, at least once, always under the same id. It is given up after
  `len(AGAIN_AFTER_S)` failures while the receiver takes others: what fails while nothing is taken does not count. In a
  dialog nothing is posted before what comes earlier there is taken or given up.
- The timelines are the queue: a webhook has a position in each dialog, and is given what its bot may see after it, as a
  member gets it. So a sealed envelope is posted as it is.
- A webhook that fails is attempted less and less often, and paused when nothing succeeded for PAUSED_AFTER_S. It never
  delays others: each is served beside the others, at most AT_ONCE_MAX.
- A step that is repeated, also by two nodes at once, posts the same events under the same ids.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from datetime import UTC, datetime

import msgspec

from protocol import ids
from protocol.bodies import TimelineEventRaw
from protocol.codec import JSON
from server.clock import Clock, Sleep
from server.identity.vault import Vault
from server.webhooks.endpoints import secret_of
from server.webhooks.posting import Poster, PostError, sign
from storage.postgres.webhooks import DueDialog, WebhookRow, WebhookStore
from storage.timelines import Timelines
from storage.unavailable import StorageUnavailableError

_log = logging.getLogger(__name__)

AGAIN_AFTER_S = (5, 30, 120, 600, 1800, 3600, 2 * 3600, 5 * 3600, 10 * 3600)
"""The pauses after an event's first attempt, its second, and so on."""
WEBHOOK_AGAIN_AFTER_S = AGAIN_AFTER_S[:5]
"""The pauses of a webhook after one failure in a row, two, and so on; from then on the last."""
PAUSED_AFTER_S = 86_400
AT_ONCE_MAX = 20
"""Webhooks that are served at the same time."""
DIALOGS_AT_ONCE_MAX = 8
LOOK_EVERY_S = 1.0
_WEBHOOKS_PER_LOOK = 100
_EVENTS_PER_READ = 20


class WebhookDelivery:
    """Serves all webhooks, until cancelled. `sent`, `failed` and `paused` count what this node did."""

    def __init__(
        self,
        store: WebhookStore,
        timelines: Timelines,
        vault: Vault,
        poster: Poster,
        clock: Clock,
        *,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.sent = self.failed = self.paused = 0
        self._store = store
        self._timelines = timelines
        self._vault = vault
        self._poster = poster
        self._clock = clock
        self._sleep = sleep
        self._serving: set[bytes] = set()
        self._looked_to: dict[bytes, bytes] = {}

    async def run(self) -> None:
        """Look at all webhooks, again and again."""
        at_once = asyncio.Semaphore(AT_ONCE_MAX)
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    for hook in await self._list_due():
                        if hook.principal not in self._serving:
                            self._serving.add(hook.principal)
                            group.create_task(self._serve_beside(hook, at_once))
                except StorageUnavailableError as error:
                    _log.warning("could not look at the webhooks, will try again: %s", error)
                await self._sleep(LOOK_EVERY_S)

    async def _list_due(self) -> list[WebhookRow]:
        now_ms = self._clock.wall_ms()
        due: list[WebhookRow] = []
        after = ids.NIL
        while page := await self._store.list_active(after, limit=_WEBHOOKS_PER_LOOK):
            due += [hook for hook in page if hook.next_at_ms <= now_ms]
            after = page[-1].principal
        return due

    async def _serve_beside(self, hook: WebhookRow, at_once: asyncio.Semaphore) -> None:
        try:
            async with at_once:
                await self.serve(hook)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are served
            expected = isinstance(error, StorageUnavailableError)
            _log.warning("could not serve a webhook, will try again: %s", error, exc_info=not expected)
        finally:
            self._serving.discard(hook.principal)

    async def serve(self, hook: WebhookRow) -> None:
        """Post what is due of some dialogs of one bot; of a webhook that failed, one event as a trial."""
        after = self._looked_to.pop(hook.principal, ids.NIL)
        due, more = await self._store.look(self._clock.wall_ms(), hook.principal, after)
        at_once = 1 if hook.failures else DIALOGS_AT_ONCE_MAX
        if (go_on := due[at_once - 1].dialog if len(due) > at_once else more) is not None:
            self._looked_to[hook.principal] = go_on
        async with asyncio.TaskGroup() as group:
            for dialog in due[:at_once]:
                group.create_task(self._post_some(hook, dialog))

    async def _post_some(self, hook: WebhookRow, due: DueDialog) -> None:
        """Post the next events of a dialog, in order, up to the first that fails."""
        limit = 1 if hook.failures else _EVENTS_PER_READ
        span = (due.dialog, due.seq + 1, due.head)
        events = await self._timelines.read_events(hook.principal, [span], limit=limit)
        done, sent = due.seq, 0
        for event in events:
            if event.author != hook.principal:
                try:
                    await self._post(hook, event)
                except PostError as error:
                    self.sent += sent
                    if sent:
                        await self._store.note_sent(hook.principal, due.dialog, done, sent=sent)
                    await self._note_failed(hook, due, event.seq, error, tries=0 if sent else due.tries)
                    return
                sent += 1
            done = event.seq
        self.sent += sent
        await self._store.note_sent(hook.principal, due.dialog, done if events else due.head, sent=sent)

    async def _post(self, hook: WebhookRow, event: TimelineEventRaw) -> None:
        body = msgspec.json.encode(
            {
                "type": "tchat.event",
                "timestamp": datetime.fromtimestamp(event.at_ms / 1000, UTC),
                "data": msgspec.Raw(JSON.encode(event)),
            }
        )
        secret = secret_of(self._vault, hook.principal, hook.secret_no)
        await self._poster.post(hook.url, sign(secret, id_of(hook, event), self._clock.wall_ms() // 1000, body), body)

    async def _note_failed(self, hook: WebhookRow, due: DueDialog, seq: int, error: PostError, *, tries: int) -> None:
        self.failed += 1
        now_ms = self._clock.wall_ms()
        webhook_again_s = WEBHOOK_AGAIN_AFTER_S[min(hook.failures, len(WEBHOOK_AGAIN_AFTER_S) - 1)]
        counts = hook.failures == 0
        give_up = counts and tries >= len(AGAIN_AFTER_S)
        again_s = AGAIN_AFTER_S[tries] if counts and not give_up else webhook_again_s
        who = {"principal": ids.to_text(hook.principal)}
        if await self._store.note_failed(
            now_ms,
            hook.principal,
            due.dialog,
            seq,
            str(error),
            tries=0 if give_up else tries + counts,
            next_at_ms=now_ms + again_s * 1000,
            webhook_next_at_ms=now_ms + webhook_again_s * 1000,
            give_up=give_up,
            pause_if_since_ms=now_ms if error.gone else now_ms - PAUSED_AFTER_S * 1000,
        ):
            self.paused += 1
            _log.warning("a webhook is paused until its bot resumes it: %s", error, extra=who)
        elif give_up:
            _log.warning("an event is given up, its webhook does not take it: %s", error, extra=who)


def id_of(hook: WebhookRow, event: TimelineEventRaw) -> str:
    """The id of an event for this bot: the same in every attempt, and another for each event."""
    named = hook.principal + event.dialog + event.seq.to_bytes(8, "big")
    return f"msg_{hashlib.sha256(named).hexdigest()[:32]}"
