"""What holds for every request, whether or not a route answers it."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.support.api_world import ANN, ApiWorld, error

pytestmark = pytest.mark.anyio

REQUESTS = [
    ("GET", "/v1/nothing", 404),
    ("PUT", "/v1/me", 404),
    ("GET", "/v1/me", 401),
    ("GET", "/v1/jwks", 200),
    ("GET", "/v1/docs", 200),
    ("POST", "/v1/sign-in/codes", 400),
]


@pytest.mark.parametrize(("method", "path", "status"), REQUESTS)
async def test_no_answer_is_kept_or_guessed_at(api: ApiWorld, method: str, path: str, status: int) -> None:
    answer = await api.ask(method, path, content=b"x")
    assert answer.status_code == status
    assert answer.headers.get_list("cache-control") == ["no-store"]
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/nothing"), ("PUT", "/v1/me"), ("GET", "/v1/jwks")])
async def test_requests_of_one_address_are_limited_wherever_they_go(api: ApiWorld, method: str, path: str) -> None:
    answers = [await api.ask(method, path, address="203.0.113.5") for _ in range(101)]
    assert {answer.status_code for answer in answers[:100]} <= {200, 404}
    assert error(answers[-1]) == (429, "rate_limited")
    assert answers[-1].headers["retry-after"] == "1"
    assert answers[-1].headers["cache-control"] == "no-store"
    assert (await api.ask(method, path, address="203.0.113.6")).status_code in {200, 404}


@pytest.mark.parametrize(
    ("address", "elsewhere"), [("203.0.113.{}", "203.0.114.1"), ("2001:db8:0:{}::1", "2001:db8:1::1")]
)
async def test_requests_of_all_addresses_of_a_site_are_limited(api: ApiWorld, address: str, elsewhere: str) -> None:
    statuses = [
        (await api.ask("GET", "/v1/jwks", address=address.format(at))).status_code
        for at in range(9)
        for _ in range(100)
    ]
    assert statuses == [200] * 800 + [429] * 100
    assert (await api.ask("GET", "/v1/jwks", address=elsewhere)).status_code == 200


async def test_a_client_that_goes_away_is_no_error(api: ApiWorld, caplog: pytest.LogCaptureFixture) -> None:
    messages = [{"type": "http.request", "body": b'{"phone', "more_body": True}]

    async def receive() -> dict[str, Any]:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(_message: dict[str, Any]) -> None:
        """To nobody."""

    with caplog.at_level(logging.DEBUG):
        await api.identity.app(scope_of("POST", "/v1/sign-in/codes"), receive, send)
    assert caplog.records == []
    assert (await api.ask("POST", "/v1/sign-in/codes", {"phone_number": ANN})).status_code == 202


def scope_of(method: str, path: str) -> dict[str, Any]:
    """An HTTP request as a server hands it to an app."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"tchat.test"), (b"content-type", b"application/json")],
        "client": ("203.0.113.7", 50_000),
        "server": ("tchat.test", 80),
        "state": {},
    }
