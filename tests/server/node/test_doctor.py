"""`tchat doctor`: says what is wrong and what to do, and changes nothing."""

import asyncio
import resource
import time
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from server.node.doctor import Finding, examine
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.migrate import migrate


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from any config.toml."""
    monkeypatch.chdir(tmp_path)


def found(**environment: str) -> dict[str, Finding]:
    """What it finds under these environment variables, by subject."""
    variables = {f"TCHAT__{name}": value for name, value in environment.items()}
    return {finding.subject: finding for finding in examine(None, variables)}


def execute(url: str, statement: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(statement)
        await connection.close()

    asyncio.run(run())


def test_on_a_fresh_machine_nothing_is_wrong_and_nothing_is_made(tmp_path: Path) -> None:
    findings = found(GATEWAY__CONNECTIONS_MAX="100")
    assert {subject: finding.level for subject, finding in findings.items()} == {
        "config": "ok",
        "data folder": "ok",
        "open files": "ok",
        "PostgreSQL": "ok",
    }
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_configuration_is_the_one_thing_it_says() -> None:
    (finding,) = found(SERVER__PORT="x").values()
    assert finding.is_problem
    assert str(finding).startswith("problem config: environment variable TCHAT__SERVER__PORT takes")


def test_a_stopped_server_is_looked_into_and_left_stopped(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / ".tchat"):
        pass
    findings = found()
    assert findings["schema"].level == "note"
    assert findings["durability"].level == findings["clock"].level == findings["PostgreSQL"].level == "ok"
    assert not (tmp_path / ".tchat" / "postgres" / "postmaster.pid").exists()


def test_a_running_server_is_asked_and_left_running(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / ".tchat") as postgres:
        asyncio.run(migrate(postgres.url))
        assert found()["schema"].level == "ok"
        execute(postgres.url, "SELECT 1")


def test_a_database_of_yours_must_be_migrated_by_you(empty_database_url: str) -> None:
    schema = found(STORAGE__POSTGRES_URL=empty_database_url)["schema"]
    assert schema.is_problem
    assert "tchat migrate" in schema.text


def test_a_newer_schema_is_a_problem(database_url: str) -> None:
    execute(database_url, "INSERT INTO migrations (number, name) VALUES (9999, 'later')")
    assert "newer tchat" in found(STORAGE__POSTGRES_URL=database_url)["schema"].text


def test_a_database_that_may_lose_what_it_acked_is_a_problem(database_url: str) -> None:
    name = urlsplit(database_url).path.removeprefix("/")
    execute(database_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    durability = found(STORAGE__POSTGRES_URL=database_url)["durability"]
    assert durability.is_problem
    assert "synchronous_commit = off" in durability.text


def test_a_clock_that_runs_apart_is_a_problem(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right = time.time
    monkeypatch.setattr("server.node.doctor.time.time", lambda: right() - 5)
    clock = found(STORAGE__POSTGRES_URL=database_url)["clock"]
    assert clock.is_problem
    assert "5.0 s apart" in clock.text


def test_a_database_that_does_not_answer_is_a_problem() -> None:
    finding = found(STORAGE__POSTGRES_URL="postgresql://u@127.0.0.1:1/x")["PostgreSQL"]
    assert finding.is_problem
    assert "cannot be reached" in finding.text


def test_too_few_open_files_are_a_note_here_and_say_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (1000, 1000))
    finding = found(GATEWAY__CONNECTIONS_MAX="1000")["open files"]
    assert finding.level == "note"
    assert "set gateway.connections_max to 800" in finding.text


def test_a_data_folder_open_to_others_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / ".tchat").mkdir()
    (tmp_path / ".tchat").chmod(0o755)
    assert "chmod 700" in found()["data folder"].text


def test_a_file_in_the_data_folders_place_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert found(SERVER__DATA_DIR=str(tmp_path / "file"))["data folder"].is_problem
