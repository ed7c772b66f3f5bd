"""`tchat doctor`: says what is wrong and what to do, and changes nothing."""

import asyncio
import base64
import os
import resource
import time
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from server.identity.signing_keys import new_pem
from server.identity.vault import new_key
from server.node import doctor
from server.node.doctor import examine
from server.node.finding import Finding
from storage.cql.driver import CqlServer
from storage.embedded.cluster import EmbeddedPostgres
from storage.embedded.install import SystemAccount
from storage.postgres.migrate import migrate
from tests.engines.server_process import free_port


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
    findings.pop("account", None)  # root has a note there
    assert {subject: finding.level for subject, finding in findings.items()} == {
        "config": "ok",
        "data folder": "ok",
        "open files": "ok",
        "PostgreSQL": "ok",
    }
    assert list(tmp_path.iterdir()) == []


def test_it_says_whether_workers_have_cores_and_connections(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    nodes = {
        "CLUSTER__REDIS_URLS": "redis://127.0.0.1:1",
        "IDENTITY__SIGNING_KEY": new_pem(),
        "IDENTITY__PHONE_KEY": new_key(),
        "STORAGE__POSTGRES_URL": empty_database_url,
    }
    fits, not_so = (found(SERVER__WORKERS=workers, **nodes) for workers in ("3", "6"))
    assert (fits["workers"].level, not_so["workers"].level) == ("ok", "note")
    assert (fits["connections"].level, not_so["connections"].level) == ("ok", "problem")
    assert "may need 213 and PostgreSQL allows 200" in not_so["connections"].text


def test_a_wrong_configuration_is_the_one_thing_it_says() -> None:
    (finding,) = found(SERVER__PORT="x").values()
    assert finding.is_problem
    assert str(finding).startswith("problem config: environment variable TCHAT__SERVER__PORT takes")


def test_everything_unsafe_in_production_is_said_with_what_to_do(tmp_path: Path) -> None:
    key = tmp_path / "phone_key"
    key.write_text("x")
    key.chmod(0o644)
    issuers = '[{issuer = "tchat", audience = "a", jwks_url = "https://id.example/keys", tenant = 2}]'
    findings = examine(
        None,
        {
            "TCHAT__SERVER__MODE": "production",
            "TCHAT__SERVER__ADMIN_HOST": "0.0.0.0",
            "TCHAT__GATEWAY__TRUSTED_PROXIES": "0.0.0.0/0",
            "TCHAT__IDENTITY__CODE_SENDER": "none",
            "TCHAT__IDENTITY__ISSUERS": issuers,
            "TCHAT__IDENTITY__PHONE_KEY_FILE": str(key),
        },
    )
    assert all(finding.is_problem for finding in findings)
    assert [finding.text.split(":")[0] for finding in findings] == [
        "gateway.trusted_proxies",
        "server.admin_host",
        "identity.issuers",
        "identity.phone_key_file",
    ]


def test_a_guarded_admin_port_is_a_note() -> None:
    assert (
        "0.0.0.0"
        in found(
            SERVER__MODE="production",
            SERVER__ADMIN_HOST="0.0.0.0",
            SERVER__ADMIN_IS_GUARDED="true",
            IDENTITY__CODE_SENDER="none",
        )["admin port"].text
    )


def test_keys_that_can_be_guessed_are_a_problem(tmp_path: Path) -> None:
    (tmp_path / "pem").write_text(new_pem())
    (tmp_path / "pem").chmod(0o600)
    zero = base64.b64encode(bytes(32)).decode()
    production = {"SERVER__MODE": "production", "IDENTITY__CODE_SENDER": "none", "IDENTITY__SIGNING_KEY_FILE": "pem"}
    assert found(**production, IDENTITY__PHONE_KEY=zero)["secrets"].text.startswith("identity.phone_key can be guessed")
    assert found(**production, IDENTITY__PHONE_KEY=new_key())["secrets"].level == "ok"


def test_an_account_that_others_share_is_a_note_here_and_a_problem_in_production(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = SystemAccount("postgres", os.geteuid() + 1, 0)
    monkeypatch.setattr("server.node.postgres_start.account_for", lambda _cluster: theirs)
    assert found()["account"].level == "note"
    account = found(SERVER__MODE="production", IDENTITY__CODE_SENDER="none")["account"]
    assert account.is_problem
    assert "storage.postgres_url" in account.text
    assert "account" not in found(STORAGE__POSTGRES_URL="postgresql://u@127.0.0.1:1/x")


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


def test_a_failover_that_is_declared_synchronous_and_is_not_is_a_problem(database_url: str) -> None:
    settings = {"STORAGE__POSTGRES_URL": database_url, "STORAGE__FAILOVER_IS_SYNCHRONOUS": "true"}
    durability = found(**settings)["durability"]
    assert durability.is_problem
    assert "synchronous_standby_names" in durability.text


def test_a_transaction_that_stays_open_is_a_problem(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(STORAGE__POSTGRES_URL=database_url)["transactions"].level == "ok"
    monkeypatch.setattr(doctor, "OPEN_TRANSACTION_MAX_S", 0.0)

    async def examined() -> Finding:
        writer = await asyncpg.connect(database_url)
        await writer.execute("BEGIN; SELECT pg_current_xact_id()")
        finding = (await asyncio.to_thread(found, STORAGE__POSTGRES_URL=database_url))["transactions"]
        assert f"pid {writer.get_server_pid()}, idle in transaction in database" in finding.text
        await writer.close()
        return finding

    assert asyncio.run(examined()).is_problem


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


def archive_found(server: CqlServer, keyspace: str = "", **environment: str) -> Finding:
    """What it finds about this archive."""
    return found(
        STORAGE__CQL_HOSTS=f'["{server.hosts[0]}"]',
        STORAGE__CQL_PORT=str(server.port),
        STORAGE__CQL_KEYSPACE=keyspace or server.keyspace,
        **environment,
    )["archive"]


def test_an_archive_that_is_current_is_fine_here_and_has_too_few_copies_for_production(cql_server: CqlServer) -> None:
    assert archive_found(cql_server).level == "ok"
    finding = archive_found(cql_server, SERVER__MODE="production", IDENTITY__CODE_SENDER="none")
    assert finding.is_problem
    assert "keeps 1 of 3 copies of each row here: change its replication" in finding.text


def test_an_archive_must_be_migrated_by_you(cql_server: CqlServer, cql_keyspace: str) -> None:
    finding = archive_found(cql_server, cql_keyspace)
    assert finding.is_problem
    assert "run `tchat migrate`" in finding.text


def test_an_archive_that_does_not_answer_is_a_problem() -> None:
    finding = archive_found(CqlServer(("127.0.0.1",), free_port(), "tchat"))
    assert finding.is_problem
    assert "check storage.cql_hosts" in finding.text


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
