"""An API key becomes access tokens: for one device, again when they end, and never when the key is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tchat.actions import SignInRequiredError, TokenUnavailableError
from tchat.key_sign_in import KeySignIn
from tests.support.webhook_receiver import WebhookReceiver, receiving

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[WebhookReceiver]:
    async with receiving() as receiver:
        receiver.answer_body = json.dumps(
            {"device": "00000000-0000-0000-0000-000000000001", "access_token": "token", "expires_in_s": 3600}
        )
        receiver.answer = lambda _request: 200
        yield receiver


def signing_in(server: WebhookReceiver, folder: Path, key: str | Path = "tck_x") -> KeySignIn:
    return KeySignIn(f"http://127.0.0.1:{server.port}", key, folder / "device")


async def test_a_token_serves_until_it_ends_or_is_refused(server: WebhookReceiver, tmp_path: Path) -> None:
    sign_in = signing_in(server, tmp_path)
    assert [await sign_in(False), await sign_in(False)] == ["token", "token"]
    assert len(server.requests) == 1
    await sign_in(True)
    assert len(server.requests) == 2
    sign_in._until = 0.0
    await sign_in(False)
    assert len(server.requests) == 3


async def test_the_device_is_the_same_in_every_life(server: WebhookReceiver, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("tck_y\n")
    for _ in range(2):
        await signing_in(server, tmp_path, tmp_path / "key")(False)
    devices = {json.loads(request.body)["device"]["device_id"] for request in server.requests}
    assert len(devices) == 1
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer tck_y"}
    assert (tmp_path / "device").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(("status", "error"), [(401, SignInRequiredError), (403, SignInRequiredError)])
async def test_a_key_that_is_refused_stops_the_bot(
    server: WebhookReceiver, tmp_path: Path, status: int, error: type[Exception]
) -> None:
    server.answer = lambda _request: status
    server.answer_body = json.dumps({"code": "suspended", "message": "suspended"})
    with pytest.raises(error, match="suspended"):
        await signing_in(server, tmp_path)(False)


@pytest.mark.parametrize("status", [404, 429, 503])
async def test_a_server_that_cannot_answer_now_is_asked_again(
    server: WebhookReceiver, tmp_path: Path, status: int
) -> None:
    server.answer = lambda _request: status
    with pytest.raises(TokenUnavailableError):
        await signing_in(server, tmp_path)(False)


async def test_a_server_that_is_not_there_is_asked_again(tmp_path: Path) -> None:
    async with receiving() as receiver:
        pass
    with pytest.raises(TokenUnavailableError):
        await signing_in(receiver, tmp_path)(False)


async def test_a_key_that_cannot_be_read_stops_the_bot(server: WebhookReceiver, tmp_path: Path) -> None:
    with pytest.raises(SignInRequiredError, match="cannot be read"):
        await signing_in(server, tmp_path, tmp_path / "nowhere")(False)
