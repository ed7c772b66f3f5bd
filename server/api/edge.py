"""What holds for every request, whether or not a route answers it: the rate of its address, and headers of the answer.

A site has thousands of networks of IPv6, each with the rate of an address: together they have NEIGHBOURHOOD_FACTOR
times that rate.

A client that goes away before its request is complete ends the request, and is no error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from server.api.auth import address_in
from server.api.errors import ClientGoneError, render_refusal
from server.identity.rates import take_or_refuse
from server.networks import neighbourhood_of, network_of
from server.refusals import RequestRefusedError
from storage.rates import Rate, RateLimiter

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

NEIGHBOURHOOD_FACTOR = 8
_HEADERS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))


class Edge:
    """An ASGI app around the API."""

    def __init__(self, app: App, limiter: RateLimiter, *, requests_per_address_per_s: float) -> None:
        self._app = app
        self._limiter = limiter
        self._requests = Rate.per_second("requests of address", requests_per_address_per_s)
        self._of_neighbourhood = Rate.per_second(
            "requests of neighbourhood", NEIGHBOURHOOD_FACTOR * requests_per_address_per_s
        )

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        async def receive_request() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            return message

        async def send_answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), *_HEADERS]
                message = {**message, "headers": headers}
            await send(message)

        address = address_in(scope)
        buckets = [(self._requests, network_of(address)), (self._of_neighbourhood, neighbourhood_of(address))]
        try:
            await take_or_refuse(self._limiter, buckets)
        except RequestRefusedError as error:
            status, answer_headers, body = render_refusal(error)
            await send_answer({"type": "http.response.start", "status": status, "headers": answer_headers})
            await send_answer({"type": "http.response.body", "body": body})
        else:
            await self._app(scope, receive_request, send_answer)
