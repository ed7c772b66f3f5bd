"""The private port of commerce, and what `tchat doctor` says of it."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import httpx
import pytest

from server.config.payment_settings import CommerceServiceSettings
from server.config.setting_types import Secret
from server.config.settings import Config, ServerSettings
from server.node.commerce_admin import OF_COMMERCE, commerce_admin
from server.node.commerce_doctor import examine_commerce
from storage.commerce.ledger import Ledger
from tests.support.commerce_world import opened_world

_OVERDUE_S = 500


async def _ask(app: object, path: str) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://commerce.test") as client:  # type: ignore[arg-type]
        return await client.get(path)


@pytest.mark.anyio
async def test_the_private_port_shows_every_metric_and_whether_the_books_answer(money_url: str) -> None:
    async with opened_world(money_url, Config()) as world:
        ann, ben = await world.person(1_000), await world.person()
        assert (await ann.post("payments", ann.payment(ben, 100))).status_code == 201
        assert (await ann.post("payments", ann.payment(ann, 100))).status_code == 400
        app = commerce_admin(world.commerce)
        page = (await _ask(app, "/metrics")).text
        assert 'tchat_commerce_requests_total{status="400"} 1.0' in page
        assert "tchat_commerce_requests_under_way 0.0" in page
        assert "tchat_commerce_due_seconds 0.0" in page
        for name, kind, _, _ in OF_COMMERCE:
            assert f"# TYPE {name} {kind}" in page
        assert (await _ask(app, "/readyz")).status_code == 200
        away = await Ledger.open(money_url, writes=1, reads=1, statement_timeout_s=5)
        await away.aclose()
        app = commerce_admin(dataclasses.replace(world.commerce, ledger=away))
        assert (await _ask(app, "/readyz")).text == "not ready: the books do not answer\n"
        assert "tchat_commerce_due_seconds" not in (await _ask(app, "/metrics")).text


@pytest.mark.anyio
async def test_a_payment_that_is_due_for_long_is_seen(money_url: str) -> None:
    async with opened_world(money_url, Config()) as world:
        ann, ben = await world.person(1_000), await world.person()
        requested = (await ben.post("payments", ben.request(ann, 100))).json()
        due_us = int((time.time() - _OVERDUE_S) * 1_000_000)
        await world.database.execute("UPDATE payments SET expires_us = $1", due_us)
        assert await world.commerce.ledger.read_oldest_due_s() >= _OVERDUE_S
        assert (await ann.read(f"payments/{requested['id']}"))["state"] == "expired"
        assert await world.commerce.ledger.read_oldest_due_s() == 0


def test_the_doctor_looks_at_the_books_where_there_are_some(money_url: str, empty_database_url: str) -> None:
    def said(url: str, **more: object) -> dict[str, str]:
        settings = CommerceServiceSettings(postgres_url=url, data_dir=Path("nowhere"), **more)  # type: ignore[arg-type]
        config = Config(commerce_service=settings, server=ServerSettings(mode="production"))
        return {each.subject: each.level for each in examine_commerce(config)}

    assert said("") == {}
    assert said(money_url) == {"commerce key": "problem", "books": "ok", "payments due": "ok"}
    key = Secret("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
    assert said(money_url, digest_key=key)["commerce key"] == "ok"
    assert said(empty_database_url)["books"] == "note"
    assert said("postgresql://x@127.0.0.1:1/x")["books"] == "problem"
