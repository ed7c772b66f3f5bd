"""The private port: whether the node is alive, whether it takes connections, and its metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from server.gateway.http_connection import ASGIApp, ASGISend


def admin_app(
    registry: CollectorRegistry, find_obstacle: Callable[[], str], find_trouble: Callable[[], str]
) -> ASGIApp:
    """`GET /healthz`, `/readyz` and `/metrics`.

    `find_obstacle` says what keeps the node from serving, as a sentence: `/readyz` answers 503 with it, 200 if empty.
    `find_trouble` says what is wrong although the node serves: it is only added to the answer, since a proxy would take
    the node away from everybody.
    """

    def answer_ready() -> tuple[int, str, bytes]:
        if obstacle := find_obstacle():
            return 503, "text/plain", f"not ready: {obstacle}\n".encode()
        trouble = find_trouble()
        return 200, "text/plain", f"ready, but {trouble}\n".encode() if trouble else b"ready\n"

    def answer(path: str) -> tuple[int, str, bytes]:
        if path == "/healthz":
            return 200, "text/plain", b"alive\n"
        if path == "/readyz":
            return answer_ready()
        if path == "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest(registry)
        return 404, "text/plain", b"There is /healthz, /readyz and /metrics.\n"

    async def app(scope: dict[str, Any], receive: object, send: ASGISend) -> None:
        del receive
        status, content_type, body = answer(scope["path"])
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app
