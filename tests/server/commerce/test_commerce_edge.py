"""What holds for every request: a bound on those under way, and headers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.commerce.commerce_edge import CommerceEdge
from server.http.errors import ClientGoneError
from server.http.exchange import Message

pytestmark = pytest.mark.anyio


class Exchange:
    """A client: what it sends, and what it gets."""

    def __init__(self, *messages: Message) -> None:
        self.got: list[Message] = []
        self._messages = list(messages)

    async def receive(self) -> Message:
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)

    async def send(self, message: Message) -> None:
        self.got.append(message)


async def test_above_a_number_under_way_requests_are_refused_and_then_taken_again() -> None:
    release = asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await release.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    edge = CommerceEdge(app, requests_max=1)
    first, second, third = Exchange(), Exchange(), Exchange()
    under_way = asyncio.ensure_future(edge({}, first.receive, first.send))
    await asyncio.sleep(0)
    await edge({}, second.receive, second.send)
    assert second.got[0]["status"] == 503
    assert b'"unavailable"' in second.got[1]["body"]
    assert (b"retry-after", b"1") in second.got[0]["headers"]
    release.set()
    await under_way
    await edge({}, third.receive, third.send)
    assert [first.got[0]["status"], third.got[0]["status"]] == [200, 200]
    assert (b"cache-control", b"no-store") in first.got[0]["headers"]
    assert edge.under_way == 0


async def test_a_client_that_goes_away_before_its_body_ends_its_request() -> None:
    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        await receive()

    client = Exchange({"type": "http.disconnect"})
    edge = CommerceEdge(app, requests_max=1)
    with pytest.raises(ClientGoneError):
        await edge({}, client.receive, client.send)
    assert edge.under_way == 0
