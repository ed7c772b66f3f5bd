"""Tokens on disk and over HTTP, against an API on a script."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from tchat.actions import SignInRequiredError, TokenUnavailableError
from tchat.terminal.account import ApiError, LocalAccount

pytestmark = pytest.mark.anyio

PRINCIPAL = UUID(int=1)
DEVICE = UUID(int=2)
Answer = Callable[[str, dict[str, Any]], httpx.Response]


def signed_in(number: int, expires_in_s: float = 3600) -> httpx.Response:
    return httpx.Response(
        200,
        json={
            "principal": str(PRINCIPAL),
            "device": str(DEVICE),
            "sign_in": str(UUID(int=3)),
            "access_token": f"access{number}",
            "expires_in_s": expires_in_s,
            "refresh_token": f"refresh{number}",
        },
    )


def refused(status: int, code: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "message": f"No: {code}.", "retry_after_s": None})


class Api:
    """Answers in turn, and remembers what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, Any], str]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        self.asked.append((request.url.path, body, request.headers.get("authorization", "")))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def account(folder: Path, api: Api) -> LocalAccount:
    http = httpx.AsyncClient(transport=httpx.MockTransport(api), base_url="http://server")
    made = LocalAccount(folder, http)
    made.load()
    return made


async def test_a_sign_in_is_kept_for_the_next_run_and_from_others(tmp_path: Path) -> None:
    first = account(tmp_path, Api(httpx.Response(202, json={"expires_in_s": 300}), signed_in(1)))
    assert first.saved is None
    await first.send_code("+6591234567")
    await first.sign_in("+6591234567", "123456", "Ann")
    second = account(tmp_path, Api())
    assert second.saved == first.saved
    assert await second.token(False) == "access1"
    assert stat.S_IMODE((tmp_path / "account.json").stat().st_mode) == 0o600


async def test_a_new_sign_in_names_the_device_of_before(tmp_path: Path) -> None:
    api = Api(signed_in(1), signed_in(2))
    one = account(tmp_path, api)
    await one.sign_in("+6591234567", "123456", "Ann")
    await one.sign_in("+6591234567", "123456", "")
    assert "device_id" not in api.asked[0][1]["device"]
    assert api.asked[0][1]["display_name"] == "Ann"
    assert api.asked[1][1]["device"]["device_id"] == str(DEVICE)
    assert "display_name" not in api.asked[1][1]


async def test_a_token_is_renewed_when_it_ends_or_was_refused(tmp_path: Path) -> None:
    api = Api(signed_in(1, expires_in_s=10), signed_in(2), signed_in(3))
    one = account(tmp_path, api)
    await one.sign_in("+6591234567", "123456", "Ann")
    assert await one.token(False) == "access2"
    assert await one.token(False) == "access2"
    assert await one.token(True) == "access3"
    assert [body.get("refresh_token") for _, body, _ in api.asked] == [None, "refresh1", "refresh2"]
    assert account(tmp_path, Api()).saved == one.saved


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (refused(401, "signed_out"), SignInRequiredError),
        (refused(403, "suspended"), SignInRequiredError),
        (refused(503, "unavailable"), TokenUnavailableError),
        (refused(429, "rate_limited"), TokenUnavailableError),
        (httpx.Response(502, text="bad gateway"), TokenUnavailableError),
        (httpx.ConnectError("nobody there"), TokenUnavailableError),
    ],
)
async def test_a_refresh_that_fails_says_whether_to_sign_in_again(
    tmp_path: Path, answer: httpx.Response | Exception, error: type[Exception]
) -> None:
    one = account(tmp_path, Api(signed_in(1), answer))
    await one.sign_in("+6591234567", "123456", "Ann")
    with pytest.raises(error):
        await one.token(True)


async def test_nobody_has_no_token(tmp_path: Path) -> None:
    with pytest.raises(SignInRequiredError):
        await account(tmp_path, Api()).token(False)


async def test_a_broken_file_is_like_none(tmp_path: Path) -> None:
    (tmp_path / "account.json").write_text("{")
    assert account(tmp_path, Api()).saved is None


async def test_sign_ins_are_listed_and_ended(tmp_path: Path) -> None:
    row = {"sign_in": str(UUID(int=3)), "device": str(DEVICE), "platform": "terminal", "app_version": "0.1", "name": ""}
    listed = httpx.Response(200, json=[{**row, "last_used_at_ms": 5, "address": "", "current": True}])
    api = Api(signed_in(1), listed, httpx.Response(204), refused(403, "suspended"))
    one = account(tmp_path, api)
    await one.sign_in("+6591234567", "123456", "Ann")
    (mine,) = await one.sign_ins()
    assert (mine.sign_in, mine.device, mine.last_used_at_ms) == (UUID(int=3), DEVICE, 5)
    await one.end_sign_in(mine.sign_in)
    assert api.asked[2][0] == f"/v1/sign-ins/{UUID(int=3)}"
    with pytest.raises(ApiError, match="No: suspended"):
        await one.sign_ins()


async def test_people_are_found_with_the_token(tmp_path: Path) -> None:
    bob = {"principal": str(UUID(int=9)), "display_name": "Bob", "avatar_url": ""}
    found = [httpx.Response(200, json=bob), httpx.Response(200, json=bob), refused(404, "principal_not_found")]
    api = Api(signed_in(1), *found)
    one = account(tmp_path, api)
    await one.sign_in("+6591234567", "123456", "Ann")
    assert (await one.find("+6598765432")).display_name == "Bob"
    assert (await one.person(UUID(int=9).bytes)).principal == UUID(int=9)
    assert {authorization for _, _, authorization in api.asked[1:]} == {"Bearer access1"}
    with pytest.raises(ApiError, match="No: principal_not_found") as raised:
        await one.find("+6500000000")
    assert raised.value.status == 404
