"""HTTP apps are kept between tests: to make one takes a sixth of a second, longer than most tests of it.

Each app of a test is another one, and its handlers work with the parts of that test alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from litestar import Litestar

from server.api.app import create_api
from server.commerce.resources.commerce_app import create_commerce
from server.node import commerce_composition, identity_parts


class _PartsOfTest:
    """What handlers are given, in place of the parts that a test has now."""

    def __init__(self) -> None:
        self.now: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now, name)


class KeptApps:
    """Makes apps as `create` does, or gives those of earlier tests."""

    def __init__(self, create: Callable[..., Litestar]) -> None:
        self._create = create
        self._free: dict[int, list[tuple[Litestar, _PartsOfTest]]] = {}
        self._used: list[tuple[int, Litestar, _PartsOfTest]] = []

    def __call__(self, parts: Any, *, body_bytes_max: int) -> Litestar:
        free = self._free.setdefault(body_bytes_max, [])
        if free:
            app, given = free.pop()
        else:
            given = _PartsOfTest()
            app = self._create(given, body_bytes_max=body_bytes_max)
        given.now = parts
        self._used.append((body_bytes_max, app, given))
        return app

    def end_test(self) -> None:
        """All apps may be given again."""
        for body_bytes_max, app, given in self._used:
            given.now = None
            self._free[body_bytes_max].append((app, given))
        self._used.clear()


@pytest.fixture(scope="session")
def app_makers() -> Iterator[tuple[KeptApps, KeptApps]]:
    """Those of the API of the chat, and of commerce."""
    makers = KeptApps(create_api), KeptApps(create_commerce)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(identity_parts, "create_api", makers[0])
        patch.setattr(commerce_composition, "create_commerce", makers[1])
        yield makers


@pytest.fixture(autouse=True)
def kept_apps(app_makers: tuple[KeptApps, KeptApps]) -> Iterator[None]:
    """Keep the apps that a test has made."""
    yield
    for maker in app_makers:
        maker.end_test()
