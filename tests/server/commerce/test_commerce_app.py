"""Every resource of commerce is routed, documented, and refuses in one form."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import pytest
from litestar.handlers import HTTPRouteHandler

from server.commerce import resources
from server.commerce.resources.commerce_app import create_commerce
from server.http.errors import REFUSALS
from tests.support.commerce_world import CommerceWorld

pytestmark = pytest.mark.anyio

MODULES = [
    importlib.import_module(f"{resources.__name__}.{module.name}")
    for module in pkgutil.iter_modules(resources.__path__)
    if module.name.endswith("_resource")
]
HANDLERS = [handler for module in MODULES for handler in vars(module).values() if isinstance(handler, HTTPRouteHandler)]
PARTS: Any = None


def test_every_handler_is_routed_and_says_what_it_does_and_how_it_refuses() -> None:
    app = create_commerce(PARTS, body_bytes_max=1)
    routed = {handler.handler_name for route in app.routes for handler in getattr(route, "route_handlers", ())}
    assert {handler.handler_name for handler in HANDLERS} <= routed
    for handler in HANDLERS:
        assert (handler.fn.__doc__ or "").rstrip().endswith(".")
        assert handler.responses is not None
        assert REFUSALS.items() <= handler.responses.items()


def test_every_post_needs_a_key_and_every_operation_says_who_may_ask() -> None:
    paths = create_commerce(PARTS, body_bytes_max=1).openapi_schema.to_schema()["paths"]
    webhooks = paths["/v1/gateways/{gateway}/events"]["post"]
    operations = [(method, operation) for item in paths.values() for method, operation in item.items()]
    assert len(operations) == len(HANDLERS)
    for method, operation in operations:
        named = {parameter["name"] for parameter in operation.get("parameters", [])}
        assert ("Idempotency-Key" in named) == (method == "post" and operation is not webhooks)
        assert operation["security"]


async def test_the_page_is_open_and_fetches_nothing(commerce: CommerceWorld) -> None:
    page = await commerce.send("GET", "/v1/docs", "", "", b"")
    assert page.status_code == 200
    assert "/v1/payments/{payment}/approve" in page.text
    assert "<script" not in page.text
