"""The private port: whether the node is alive, whether it takes connections, and its metrics; who is connected."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from server.gateway.http_connection import ASGIApp, ASGISend
from server.node.connected import Here, read_query

Answer = tuple[int, str, bytes]
"""Status, content type, body."""
Answers = Mapping[str, Callable[[bytes], Awaitable[Answer]]]
"""By path, what answers a query string."""


def admin_app(
    registry: CollectorRegistry,
    find_obstacle: Callable[[], str],
    find_trouble: Callable[[], str],
    find_connected: Callable[[list[bytes]], Here],
) -> ASGIApp:
    """`GET /healthz`, `/readyz`, `/metrics`, and `/connected?principal=ID` for `tchat trace`.

    `find_obstacle` says what keeps the node from serving, as a sentence: `/readyz` answers 503 with it, 200 if empty.
    `find_trouble` says what is wrong although the node serves: it is only added to the answer, since a proxy would take
    the node away from everybody. `find_connected` says who of some principals is connected.
    """

    async def answer_ready(_query: bytes) -> Answer:
        if obstacle := find_obstacle():
            return 503, "text/plain", f"not ready: {obstacle}\n".encode()
        trouble = find_trouble()
        return 200, "text/plain", f"ready, but {trouble}\n".encode() if trouble else b"ready\n"

    async def answer_metrics(_query: bytes) -> Answer:
        return 200, CONTENT_TYPE_LATEST, generate_latest(registry)

    async def answer_connected(query: bytes) -> Answer:
        try:
            return 200, "application/json", msgspec.json.encode(find_connected(read_query(query)))
        except ValueError:
            return 400, "text/plain", b"principal=ID takes ids as the API writes them.\n"

    return private_app({"/readyz": answer_ready, "/metrics": answer_metrics, "/connected": answer_connected})


def private_app(answers: Answers) -> ASGIApp:
    """`GET` of these paths, and `/healthz`, which says that the event loop runs."""

    async def answer_health(_query: bytes) -> Answer:
        return 200, "text/plain", b"alive\n"

    known = {"/healthz": answer_health, **answers}

    async def answer_other(_query: bytes) -> Answer:
        return 404, "text/plain", f"There is {', '.join(known)}.\n".encode()

    async def app(scope: dict[str, Any], receive: object, send: ASGISend) -> None:
        del receive
        status, content_type, body = await known.get(scope["path"], answer_other)(scope["query_string"])
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app
