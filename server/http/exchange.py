"""What holds for each exchange of an ASGI app of ours: headers of the answer, and a client that goes away.

A client that goes away before its request is complete ends the request, and is no error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from server.http.errors import ClientGoneError, render_refusal
from server.refusals import RequestRefusedError

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


def receive_present(receive: Receive) -> Receive:
    """`receive` of a client that is there; raises ClientGoneError when it goes away."""

    async def receive_request() -> Message:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        return message

    return receive_request


def send_with_headers(send: Send) -> Send:
    """`send` with the headers that each answer has."""

    async def send_answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
        await send(message)

    return send_answer


async def send_refusal(send: Send, error: RequestRefusedError) -> None:
    """Answer with a refusal, outside of the framework."""
    status, headers, body = render_refusal(error)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
