"""What holds for every request, whether or not a route answers it: the rate of its address, and headers of the answer.

A site has thousands of networks of IPv6, each with the rate of an address: together they have NEIGHBOURHOOD_FACTOR
times that rate.
"""

from __future__ import annotations

from server.api.auth import address_in
from server.http.exchange import App, Message, Receive, Send, receive_present, send_refusal, send_with_headers
from server.identity.rates import take_or_refuse
from server.networks import neighbourhood_of, network_of
from server.refusals import RequestRefusedError
from storage.rates import Rate, RateLimiter

NEIGHBOURHOOD_FACTOR = 8


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
        address = address_in(scope)
        buckets = [(self._requests, network_of(address)), (self._of_neighbourhood, neighbourhood_of(address))]
        try:
            await take_or_refuse(self._limiter, buckets)
        except RequestRefusedError as error:
            await send_refusal(send_with_headers(send), error)
        else:
            await self._app(scope, receive_present(receive), send_with_headers(send))
