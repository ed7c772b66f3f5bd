"""The private port: whether the node is alive, whether it takes connections, and its metrics; who is connected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from server.gateway.http_connection import ASGIApp, ASGISend
from server.node.connected import Here, read_query

_Answer = tuple[int, str, bytes]
"""Status, content type, body."""


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

    def answer_ready(_query: bytes) -> _Answer:
        if obstacle := find_obstacle():
            return 503, "text/plain", f"not ready: {obstacle}\n".encode()
        trouble = find_trouble()
        return 200, "text/plain", f"ready, but {trouble}\n".encode() if trouble else b"ready\n"

    def answer_connected(query: bytes) -> _Answer:
        try:
            return 200, "application/json", msgspec.json.encode(find_connected(read_query(query)))
        except ValueError:
            return 400, "text/plain", b"principal=ID takes ids as the API writes them.\n"

    answers: dict[str, Callable[[bytes], _Answer]] = {
        "/healthz": lambda _: (200, "text/plain", b"alive\n"),
        "/readyz": answer_ready,
        "/metrics": lambda _: (200, CONTENT_TYPE_LATEST, generate_latest(registry)),
        "/connected": answer_connected,
    }

    def answer_other(_query: bytes) -> _Answer:
        return 404, "text/plain", f"There is {', '.join(answers)}.\n".encode()

    async def app(scope: dict[str, Any], receive: object, send: ASGISend) -> None:
        del receive
        status, content_type, body = answers.get(scope["path"], answer_other)(scope["query_string"])
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app
