"""What holds for every request to commerce: how many are worked on at once, and headers."""

from __future__ import annotations

import time
from collections import Counter

from protocol.errors import ErrorCode
from server.histogram import Histogram
from server.http.exchange import App, Message, Receive, Send, receive_present, send_refusal, send_with_headers
from server.refusals import RETRY_AFTER_S, RequestRefusedError


class CommerceEdge:
    """An ASGI app around the API."""

    def __init__(self, app: App, *, requests_max: int) -> None:
        self._app = app
        self._requests_max = requests_max
        self.under_way = 0
        self.answers: Counter[int] = Counter()
        """By HTTP status."""
        self.durations = Histogram()
        """From the head of a request to the end of its answer."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        send = self._counted(send)
        if self.under_way >= self._requests_max:
            error = RequestRefusedError(ErrorCode.UNAVAILABLE, "too many requests at once", retry_after_s=RETRY_AFTER_S)
            await send_refusal(send_with_headers(send), error)
            return
        self.under_way += 1
        began = time.monotonic()
        try:
            await self._app(scope, receive_present(receive), send_with_headers(send))
        finally:
            self.under_way -= 1
            self.durations.add(time.monotonic() - began)

    def _counted(self, send: Send) -> Send:
        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.answers[message["status"]] += 1
            await send(message)

        return send_counted
