"""`tchat relay` as a process: what keeps it from starting, and what its private port says."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from server.config.payment_settings import RelaySettings
from server.config.setting_types import Secret
from server.config.settings import Config
from server.node.relaying import OF_THE_RELAY, ledger_url, opened_relay, read_key, relay, relay_app
from server.startup_error import StartupError
from storage.commerce.announcements import Announcements
from tests.server.relay.between import Between
from tests.support.money_world import TENANT

pytestmark = pytest.mark.anyio


async def test_a_relay_without_a_key_says_what_to_set() -> None:
    with pytest.raises(StartupError, match=r"relay\.api_key_file"):
        await relay(Config())


async def test_a_relay_without_a_ledger_says_what_to_run(tmp_path: Path) -> None:
    settings = RelaySettings(api_key=Secret("tck_x"), data_dir=tmp_path)
    with pytest.raises(StartupError, match="tchat commerce"):
        await relay(Config(relay=settings))


async def test_the_key_is_read_from_its_file_each_time(tmp_path: Path) -> None:
    file = tmp_path / "key"
    settings = RelaySettings(api_key=Secret("old"), api_key_file=file)
    for text in ("old", "new"):
        file.write_text(f"{text}\n")
        assert read_key(settings) == text
    assert read_key(RelaySettings(api_key=Secret("fixed"))) == "fixed"


async def test_the_password_of_the_ledger_is_put_into_its_url() -> None:
    settings = RelaySettings(postgres_url="postgresql://ann@host/books", postgres_password=Secret("p@"))
    assert ledger_url(settings) == "postgresql://ann:p%40@host/books"


async def test_the_private_port_shows_every_metric_and_what_is_wrong(between: Between, money_url: str) -> None:
    relay, store = await between.relay(), await Announcements.open(money_url, TENANT, writes=1, statement_timeout_s=30)
    transport = httpx.ASGITransport(relay_app(relay, store))
    await between.request(await between.dialog())
    await between.announce(relay)
    async with httpx.AsyncClient(transport=transport, base_url="http://relay.test") as client:
        page = (await client.get("/metrics")).text
        assert 'tchat_relay_announcements_total{outcome="taken"} 3.0' in page
        assert "tchat_relay_oldest_seconds 0.0" in page
        for name, kind, _, _ in OF_THE_RELAY:
            assert f"# TYPE {name} {kind}" in page
        assert (await client.get("/readyz")).status_code == 200
        relay.trouble = "the chat is away"
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.text) == (503, "not ready: the chat is away\n")
    await store.aclose()


async def test_a_relay_of_the_settings_runs_until_it_is_stopped(between: Between, money_url: str) -> None:
    await between.request(await between.dialog())
    settings = RelaySettings(chat_url="http://127.0.0.1:9", api_key=Secret("tck_x"))
    async with opened_relay(settings, money_url) as (announcer, announcements):
        announcer.stop()
        await announcer.run()
        assert (await announcements.read_backlog()).oldest_us > 0
        await announcer.look()
        await announcer.finish()
        assert "does not answer" in announcer.trouble
