"""What holds for every request, whether or not a route answers it: the rate of its address, and headers of the answer.

What an account appends with its API key is held to the account's own rate: its address gets back what it took. A site
has thousands of networks of IPv6, each with the rate of an address: together they have NEIGHBOURHOOD_FACTOR times that
rate.
"""

from __future__ import annotations

from server.api.auth import address_in
from server.http.exchange import App, Message, Receive, Send, receive_present, send_refusal, send_with_headers
from server.identity.rates import take_or_refuse
from server.networks import neighbourhood_of, network_of
from server.refusals import RequestRefusedError
from storage.rates import Rate, RateLimiter

NEIGHBOURHOOD_FACTOR = 8
RATED_AS_ACCOUNT = "rated_as_account"
"""In the state of a request: it counts against the rate of its account, not of its address."""


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
            state = scope.setdefault("state", {})
            try:
                await self._app(scope, receive_present(receive), send_with_headers(send))
            finally:
                if state.get(RATED_AS_ACCOUNT):
                    await self._limiter.give_back(buckets)
