"""The embedded PostgreSQL is kept running as long as the server runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import asyncpg
import msgspec
import pytest

from server.config.settings import Config, ServerSettings, StorageSettings
from server.node.postgres_start import running_postgres
from server.startup_error import StartupError
from storage.embedded.cluster import EmbeddedError, kill_cluster
from storage.embedded.install import SystemAccount
from tests.support.turns import until

pytestmark = pytest.mark.anyio


async def test_a_killed_postgres_comes_back_even_if_not_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("server.node.postgres_start._LOOK_EVERY_S", 0.01)
    config = Config(server=ServerSettings(data_dir=tmp_path))
    with running_postgres(config) as postgres:
        assert postgres.embedded is not None
        caplog.clear()
        keeping = asyncio.ensure_future(postgres.keep_running())
        revive = postgres.embedded.revive

        def fails_once() -> bool:
            monkeypatch.setattr(postgres.embedded, "revive", revive)
            raise EmbeddedError("no memory")

        monkeypatch.setattr(postgres.embedded, "revive", fails_once)
        kill_cluster(postgres.embedded.data_dir)
        await until(lambda: len(caplog.records) == 2)
        connection = await asyncpg.connect(postgres.url)
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()
        keeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping
    assert ["no memory" in record.message for record in caplog.records] == [True, False]


async def test_in_production_no_account_that_others_share_gets_our_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = SystemAccount("postgres", os.geteuid() + 1, 0)
    monkeypatch.setattr("server.node.postgres_start.account_for", lambda _cluster: theirs)
    config = Config(server=ServerSettings(mode="production", data_dir=tmp_path / "data"))
    with pytest.raises(StartupError, match="other programs of postgres have full access"), running_postgres(config):
        pass
    assert not (tmp_path / "data").exists()


async def test_a_configured_postgres_is_left_to_its_operator() -> None:
    storage = msgspec.structs.replace(StorageSettings(), postgres_url="postgresql://x@127.0.0.1:1/none")
    with running_postgres(Config(storage=storage)) as postgres:
        assert (postgres.url, postgres.embedded) == (storage.postgres_url, None)
