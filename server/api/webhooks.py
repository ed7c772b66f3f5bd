"""The webhook of a bot: where the server posts its events."""

from __future__ import annotations

from typing import Annotated

import msgspec
from litestar import delete, get, post, put
from litestar.params import JSONBody
from msgspec import Meta

from server.api import fields as f
from server.api.auth import AsAccount
from server.api.parts import Parts
from server.http.errors import REFUSALS
from server.webhooks.posting import URL_CHARS_MAX


class WebhookRequest(f.Request):
    """Where to post events."""

    url: Annotated[str, Meta(max_length=URL_CHARS_MAX, examples=["https://bots.example.org/tchat"])]


class WebhookSecret(msgspec.Struct):
    """The secret that signs requests from now on; it is not shown again."""

    secret: Annotated[str, Meta(examples=["whsec_..."])]


class WebhookReply(msgspec.Struct):
    """What became of the requests so far. `failures` is how many failed in a row, the last one with `last_error`."""

    url: str
    sent: int
    given_up: int
    failures: int
    failing_since_ms: int | None
    last_error: str
    paused: bool


@put("/webhook", status_code=200, responses=REFUSALS)
async def set_webhook(data: JSONBody[WebhookRequest], account: AsAccount, parts: Parts) -> WebhookSecret:
    """Have your events posted to this URL, as Standard Webhooks, signed with a new secret; it ends a pause, too.

    Each request has one event that you may see and did not write, as a websocket in JSON brings it. A request is
    repeated, under the same `webhook-id`, until it is answered with a status from 200 to 299 within 10 seconds.
    """
    return WebhookSecret(await parts.webhooks.set(account.row.service, data.url))


@get("/webhook", responses=REFUSALS)
async def read_webhook(account: AsAccount, parts: Parts) -> WebhookReply:
    """Your webhook, and what became of it."""
    state = await parts.webhooks.read(account.row.service)
    return WebhookReply(
        state.url,
        state.sent,
        state.given_up,
        state.failures,
        state.failing_since_ms,
        state.last_error,
        state.paused_at_ms is not None,
    )


@post("/webhook/resume", status_code=204, responses=REFUSALS)
async def resume_webhook(account: AsAccount, parts: Parts) -> None:
    """Go on after a pause, with what came meanwhile. A webhook is paused when it failed for a day, or answered 410."""
    await parts.webhooks.resume(account.row.service)


@delete("/webhook", responses=REFUSALS)
async def remove_webhook(account: AsAccount, parts: Parts) -> None:
    """Have nothing more posted."""
    await parts.webhooks.remove(account.row.service)
