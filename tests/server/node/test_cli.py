"""The `tchat` command: what a person sees, and the exit code."""

import asyncio
import errno
import socket
import subprocess
import sys
from pathlib import Path

import asyncpg
import msgspec
import pytest

from server.config.settings import Config, ServerSettings, StorageSettings
from server.node.cli import main
from server.node.startup import explain
from server.startup_error import StartupError
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.migrate import FUNCTIONS, known_migrations


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of this test's own, named in the environment, away from any config.toml."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TCHAT__SERVER__DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def start_workers(workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have `serve` start so many workers."""
    monkeypatch.setenv("TCHAT__SERVER__WORKERS", str(workers))
    monkeypatch.setenv("TCHAT__CLUSTER__REDIS_URLS", "redis://127.0.0.1:1")


def test_help_says_what_to_do_next(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    for command in (
        "serve",
        "migrate",
        "doctor",
        "backup",
        "restore",
        "nodes",
        "trace",
        "reports",
        "config",
        "chat",
        "make serve",
    ):
        assert command in shown


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "to begin:" in capsys.readouterr().out


def test_an_unknown_argument_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["migrate", "--fast"])
    assert ended.value.code == 2
    assert "--fast" in capsys.readouterr().err


def test_config_prints_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config"]) == 0
    shown = capsys.readouterr().out
    for section in msgspec.structs.fields(Config):
        for key in msgspec.structs.fields(section.type):
            assert f"  {key.name} = " in shown


def test_migrate_shows_each_step_and_then_that_nothing_is_left(
    data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["migrate"]) == 0
    steps = capsys.readouterr().out.splitlines()
    assert steps[:-1] == [*known_migrations(), FUNCTIONS]
    assert main(["migrate"]) == 0
    assert capsys.readouterr().out == "The schema is current.\n"
    assert data_dir.exists()


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_wrong_configuration_is_one_sentence(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TCHAT__SERVER__PORT", "many")
    assert main([command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tchat: environment variable TCHAT__SERVER__PORT takes")


@pytest.mark.parametrize("command", ["serve", "migrate"])
def test_a_data_folder_in_use_is_one_sentence(command: str, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with EmbeddedPostgres(data_dir):
        assert main([command]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is in use by the server with process id" in line


@pytest.mark.parametrize("workers", [1, 2])
def test_keys_are_read_before_postgresql_starts(
    workers: int, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if workers > 1:
        start_workers(workers, monkeypatch)
    monkeypatch.setenv("TCHAT__IDENTITY__PHONE_KEY", "hunter2")
    assert main(["serve"]) == 2
    assert "identity.phone_key cannot be used" in capsys.readouterr().err
    assert not (data_dir / "postgres").exists()


@pytest.mark.parametrize(("key", "workers"), [("PORT", 1), ("ADMIN_PORT", 1), ("PORT", 2)])
def test_a_port_in_use_is_one_sentence(
    key: str, workers: int, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not data_dir.exists()
    if workers > 1:
        start_workers(workers, monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setenv("TCHAT__SERVER__PORT", "0")
        monkeypatch.setenv("TCHAT__SERVER__ADMIN_PORT", "0")
        monkeypatch.setenv(f"TCHAT__SERVER__{key}", str(port))
        assert main(["serve"]) == 2
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert f"port {port}" in line
    assert f"server.{key.lower()}" in line


def test_what_is_backed_up_is_restored_and_the_keys_are_named(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(tmp_path / "night")
    assert main(["backup", file]) == 2
    assert capsys.readouterr().err == f"tchat: There is no database in {data_dir} yet.\n"
    assert main(["migrate"]) == 0
    assert main(["backup", file]) == 0
    assert "Not in the backup: identity.phone_key" in capsys.readouterr().out
    monkeypatch.setenv("TCHAT__SERVER__DATA_DIR", str(tmp_path / "restored"))
    assert main(["restore", file]) == 0
    assert "begins an epoch" in capsys.readouterr().out
    assert main(["migrate"]) == 0
    assert capsys.readouterr().out == "The schema is current.\n"


def test_an_explanation_is_found_within_a_group() -> None:
    group = BaseExceptionGroup("", [ValueError(), BaseExceptionGroup("", [StartupError("because")])])
    assert explain(group, Config()) == "because"


def test_a_fault_of_ours_keeps_its_traceback() -> None:
    assert explain(ValueError("what"), Config()) is None
    assert explain(OSError(errno.ENOSPC, "full"), Config()) is None


def test_a_configured_postgresql_that_refuses_is_explained() -> None:
    config = Config(storage=StorageSettings(postgres_url="postgresql://127.0.0.1:1/x"))
    with pytest.raises(OSError, match="1") as refused:
        asyncio.run(asyncpg.connect(config.storage.postgres_url, user="u"))
    assert "tchat doctor" in (explain(refused.value, config) or "")


def test_an_address_that_is_not_here_is_explained() -> None:
    config = Config(server=ServerSettings(mode="production", host="192.0.2.1"))
    said = explain(OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address"), config)
    assert said is not None
    assert "192.0.2.1" in said


def test_output_that_nobody_reads_is_no_error() -> None:
    command = [sys.executable, "-c", "import sys; from server.node.cli import main; sys.exit(main(['config']))"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_help_loads_neither_server_nor_client() -> None:
    code = "import sys; import server.node.cli; print(*sorted(m for m in sys.modules if m.split('.')[0] in "
    code += "{'server', 'storage', 'protocol', 'asyncpg', 'msgspec', 'litestar'}))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    parsers = ["server.node.cli", "server.node.commerce_cli", "server.node.started"]
    assert shown.stdout.split() == ["server", "server.node", *parsers]
