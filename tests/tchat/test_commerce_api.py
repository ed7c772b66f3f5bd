"""Requests to commerce of a client: what is sent with which token, and what becomes of answers that are none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from protocol.commerce.contract import request_digest
from tchat.actions import RefusedError, RequestLostError
from tchat.commerce_api import CommerceApi
from tests.support.webhook_receiver import WebhookReceiver, receiving

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[WebhookReceiver]:
    """Chat and commerce in one."""
    async with receiving() as receiver:
        receiver.answer_body = json.dumps({"token": "for one request", "id": 7})
        receiver.answer = lambda _request: 200
        yield receiver


def asking(server: WebhookReceiver, path: str = "/money/") -> CommerceApi:
    async def token(fresh: bool) -> str:
        return "fresh" if fresh else "access"

    url = f"http://127.0.0.1:{server.port}"
    return CommerceApi(url, url + path, token)


async def test_a_step_carries_the_token_that_the_chat_signs_for_it(server: WebhookReceiver) -> None:
    async with asking(server) as commerce:
        assert (await commerce.post("/v1/orders?x=1", {"total_minor": 5}, key="k"))["id"] == 7
    asked, sent = server.requests
    body = b'{"total_minor":5}'
    assert (asked.path, asked.headers["authorization"]) == ("/v1/commerce-tokens", "Bearer access")
    assert json.loads(asked.body) == {"digest": request_digest("POST", "/money/v1/orders?x=1", "k", body)}
    assert (sent.path, sent.body, sent.headers["idempotency-key"]) == ("/money/v1/orders?x=1", body, "k")
    assert sent.headers["authorization"] == "Bearer for one request"


async def test_a_read_carries_the_access_token(server: WebhookReceiver) -> None:
    async with asking(server) as commerce:
        await commerce.get("/v1/orders?limit=2")
    (sent,) = server.requests
    assert (sent.path, sent.headers["authorization"]) == ("/money/v1/orders?limit=2", "Bearer access")


async def test_a_refusal_has_its_code_and_when_to_come_again(server: WebhookReceiver) -> None:
    server.answer = lambda _request: 429
    server.answer_body = json.dumps({"code": "rate_limited", "message": "wait", "retry_after_s": 3})
    async with asking(server) as commerce:
        with pytest.raises(RefusedError) as refused:
            await commerce.get("/v1/orders")
    assert (refused.value.failed.code, refused.value.failed.retry_after_s) == ("rate_limited", 3)
    assert refused.value.temporary


async def test_a_token_that_is_refused_is_renewed_once(server: WebhookReceiver) -> None:
    server.answer = lambda request: 200 if request.headers["authorization"] == "Bearer fresh" else 401
    server.answer_body = json.dumps({"code": "token_expired", "message": "", "token": "for one request"})
    async with asking(server) as commerce:
        assert (await commerce.get("/v1/orders"))["token"] == "for one request"
        server.answer = lambda _request: 401
        with pytest.raises(RefusedError):
            await commerce.get("/v1/orders")
    assert len(server.requests) == 4


@pytest.mark.parametrize(("status", "body"), [(502, "<html>"), (200, "<html>"), (200, '{"no": "token"}')])
async def test_whether_something_happened_is_unknown_without_an_answer_of_commerce(
    server: WebhookReceiver, status: int, body: str
) -> None:
    server.answer = lambda _request: status
    server.answer_body = body
    async with asking(server) as commerce:
        with pytest.raises(RequestLostError):
            await commerce.post("/v1/orders", key="k")


async def test_whether_something_happened_is_unknown_when_nobody_answers() -> None:
    async with receiving() as closed:
        pass
    async with asking(closed) as commerce:
        with pytest.raises(RequestLostError):
            await commerce.post("/v1/orders", key="k")
