"""The private port: whether the node is alive, whether it takes connections, and its metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from server.gateway.http_connection import ASGIApp, ASGISend


def admin_app(registry: CollectorRegistry, readiness: Callable[[], str]) -> ASGIApp:
    """`GET /healthz`, `/readyz` and `/metrics`.

    `readiness` says what keeps the node from serving, as a sentence; `/readyz` answers 503 with it, or 200 if empty.
    """

    def answer(path: str) -> tuple[int, str, bytes]:
        if path == "/healthz":
            return 200, "text/plain", b"alive\n"
        if path == "/readyz":
            reason = readiness()
            return (503, "text/plain", f"not ready: {reason}\n".encode()) if reason else (200, "text/plain", b"ready\n")
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
