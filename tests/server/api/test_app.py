"""Every resource that is written is served, documented, and requested by a test."""

from __future__ import annotations

import pkgutil
import re
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from server import api
from server.api.app import create_api
from server.http.errors import REFUSALS

TESTS = Path(__file__).parents[2]


def find_handlers() -> dict[str, HTTPRouteHandler]:
    """The handlers that the modules of the API define, by their names."""
    modules = [import_module(found.name) for found in pkgutil.iter_modules(api.__path__, f"{api.__name__}.")]
    return {
        handler.handler_name: handler
        for module in modules
        for handler in vars(module).values()
        if isinstance(handler, HTTPRouteHandler) and handler.fn.__module__ == module.__name__
    }


def find_operations() -> list[tuple[str, str, str]]:
    """Method, path and handler's name of every route that leads to code of ours."""
    parts: Any = SimpleNamespace()
    app = create_api(parts, body_bytes_max=1000)
    return sorted(
        (method, route.path, handler.handler_name)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for handler in route.route_handlers
        if handler.fn.__module__.startswith(f"{api.__name__}.")
        for method in handler.http_methods
    )


HANDLERS = find_handlers()
OPERATIONS = find_operations()


def test_there_are_handlers() -> None:
    assert {"own_profile", "append_event"} <= HANDLERS.keys()


def test_every_handler_is_routed() -> None:
    assert HANDLERS.keys() - {name for _, _, name in OPERATIONS} == set()


@pytest.mark.parametrize("name", HANDLERS)
def test_a_handler_says_what_it_does_and_how_it_refuses(name: str) -> None:
    handler = HANDLERS[name]
    assert (handler.fn.__doc__ or "").rstrip().endswith(".")
    assert handler.responses is not None
    assert REFUSALS.items() <= handler.responses.items()


@pytest.mark.parametrize(("method", "path"), [operation[:2] for operation in OPERATIONS])
def test_a_test_requests_the_operation(method: str, path: str) -> None:
    address = re.sub(r"\\{.*?\\}", "[^/]+", re.escape(path))
    request = re.compile(rf'"{method}",\s*f?"{address}"')
    folders = (TESTS / "server" / "api", TESTS / "support")
    sources = [file.read_text(encoding="utf-8") for folder in folders for file in sorted(folder.glob("*.py"))]
    assert any(request.search(source) for source in sources)
