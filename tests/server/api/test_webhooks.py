"""A bot sets its webhook with its key, sees what became of it, and ends it."""

from __future__ import annotations

import pytest

from tests.support.api_world import ApiWorld, error

pytestmark = pytest.mark.anyio

URL = "https://bots.example.org/tchat"


async def bot(api: ApiWorld) -> str:
    """The key of a new bot."""
    admin = await api.admin()
    key: str = (await api.ask("POST", "/v1/bots", {"name": "Remy"}, token=admin.access_token)).json()["key"]
    return key


async def test_a_bot_sets_sees_resumes_and_ends_its_webhook(api: ApiWorld) -> None:
    key = await bot(api)
    assert error(await api.ask("GET", "/v1/webhook", token=key)) == (404, "principal_not_found")
    assert error(await api.ask("POST", "/v1/webhook/resume", token=key)) == (404, "principal_not_found")
    secrets = [(await api.ask("PUT", "/v1/webhook", {"url": URL}, token=key)).json()["secret"] for _ in range(2)]
    assert all(secret.startswith("whsec_") for secret in secrets)
    assert secrets[0] != secrets[1]
    state = (await api.ask("GET", "/v1/webhook", token=key)).json()
    assert (state["url"], state["sent"], state["paused"]) == (URL, 0, False)
    assert (await api.ask("POST", "/v1/webhook/resume", token=key)).status_code == 204
    assert (await api.ask("DELETE", "/v1/webhook", token=key)).status_code == 204
    assert error(await api.ask("GET", "/v1/webhook", token=key)) == (404, "principal_not_found")


async def test_a_url_that_is_not_public_is_refused(api: ApiWorld) -> None:
    key = await bot(api)
    for url in ("http://bots.example.org", "https://me:pw@bots.example.org", "file:///etc/passwd", "x"):
        assert error(await api.ask("PUT", "/v1/webhook", {"url": url}, token=key)) == (400, "invalid_argument")


async def test_a_webhook_belongs_to_a_bot(api: ApiWorld) -> None:
    admin = await api.admin()
    answer = await api.ask("PUT", "/v1/webhook", {"url": URL}, token=admin.access_token)
    assert error(answer) == (403, "not_allowed")
