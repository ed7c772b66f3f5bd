"""The private port says whether the node serves, and if not, why."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from server.node.admin import admin_app
from server.node.connected import Here

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("obstacle", "trouble", "status", "text"),
    [
        ("", "", 200, "ready\n"),
        ("", "dialogs are set aside: 2", 200, "ready, but dialogs are set aside: 2\n"),
        ("a lane stands still", "dialogs are set aside: 2", 503, "not ready: a lane stands still\n"),
    ],
)
async def test_readiness_has_its_reason(obstacle: str, trouble: str, status: int, text: str) -> None:
    app: Any = admin_app(CollectorRegistry(), lambda: obstacle, lambda: trouble, lambda _: Here("n", 1, []))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://node") as client:
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.text) == (status, text)
        assert (await client.get("/healthz")).status_code == 200
