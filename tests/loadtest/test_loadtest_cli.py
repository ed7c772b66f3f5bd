"""`tchat loadtest` from its command line."""

import contextlib
import io
import os
import resource
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from loadtest import scenario as scenarios
from loadtest.cli import main
from loadtest.issuer import Issuer
from loadtest.own_server import OwnServer
from loadtest.run_result import METRICS, RunResult
from server.node import cli as tchat

TINY = """\
about = "tiny"
people = 6
seconds = 0.3
warm_up_s = 0.1
[load]
kind = "talk"
dialog_size = 3
[thresholds]
"""

pytestmark = pytest.mark.xdist_group("loadtest")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY + "acked_per_s = { at_least = 1.0 }")
    return path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[OwnServer, str]]:
    """A server that runs already, and what `tchat loadtest key` said of the key that it accepts."""
    folder = tmp_path_factory.mktemp("server")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert main(["key", str(folder / "key.pem")]) == 0
    with OwnServer(folder, issuer=Issuer.read(folder / "key.pem")) as running:
        yield running, said.getvalue()


@pytest.fixture
def there(server: tuple[OwnServer, str]) -> list[str]:
    """The options for a load on it."""
    running, _ = server
    key = running.log.with_name("key.pem")
    return ["--url", f"http://127.0.0.1:{running.address.port}", "--issuer-key", str(key)]


def test_every_scenario_is_listed_with_what_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == scenarios.list_names()
    assert any("direct dialogs" in line for line in listed)


@pytest.mark.parametrize("name", scenarios.list_names())
def test_every_scenario_can_be_read_and_names_known_metrics(name: str) -> None:
    scenario = scenarios.load(name)
    assert scenario.name == name
    assert set(scenario.thresholds) <= set(METRICS)


def test_a_run_prints_its_result_and_writes_it(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = tiny.with_suffix(".json")
    assert tchat.main(["loadtest", "run", str(tiny), "--json", str(written), "--workers", "2"]) == 0
    result = msgspec.json.decode(written.read_bytes(), type=RunResult)
    assert (result.scenario, result.server, result.people, result.good) == ("tiny", "embedded", 6, True)
    assert len(result.cpu.workers_s) == 2
    assert "acked_per_s" in capsys.readouterr().out


def test_a_threshold_that_does_not_hold_is_exit_code_1(
    tiny: Path, there: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.write_text(TINY + "ack_p50_ms = { at_most = 0.0 }")
    assert main(["run", str(tiny), *there]) == 1
    assert "ack_p50_ms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such"], "no scenario 'no-such'"),
        (["direct", "--people", "0"], "people"),
        (["direct", "--url", "ftp://127.0.0.1"], "no URL of a server"),
        (["direct", "--url", "http://127.0.0.1:9"], "refused"),
        (["direct", "--url", "http://127.0.0.1:9", "--issuer-key", "/no/such/file"], "no Ed25519 private key"),
        (["direct", "--json", "/no/such/folder/result.json"], "name a file in a folder that you may write"),
    ],
)
def test_what_cannot_start_is_exit_code_2_and_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("tchat loadtest: ")
    assert said in last


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rooms", "cannot have 10 writers in dialogs of 100: use more --people"),
        ("first-sync", "cannot have 20 direct dialogs for each: use more --people"),
    ],
)
def test_too_few_people_for_a_load_are_exit_code_2_and_a_sentence(
    name: str, said: str, there: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", name, "--people", "6", *there]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("arguments", "said"), [([], "--workers"), (["--workers", "4"], "ulimit -n")])
def test_too_few_open_files_are_said_before_anything_starts(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_000, 1_000))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    assert main(["run", "idle", "--people", "2000", *arguments]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ('kind = "tlk"', "load.kind: Invalid value 'tlk'; known: idle, storm, talk, channel, mixed, slow"),
        ('kind = "talk"\ndialog_sise = 3', "load: Object contains unknown field `dialog_sise`"),
        ('kind = "talk"\nrate = -5', "load.rate: Expected `float` >= 0.0"),
        ('kind = "idle"\n[thresholds]\nspeed = { at_most = 1 }', "thresholds on unknown numbers: speed; known: acked"),
    ],
)
def test_what_is_wrong_in_a_scenario_is_said_with_its_setting(
    load: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f'about = "mine"\npeople = 6\n[load]\n{load}\n')
    assert main(["run", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"tchat loadtest: {path}: {said}")


def test_a_server_that_accepts_a_made_key_takes_a_load_at_its_url(
    tiny: Path, tmp_path: Path, server: tuple[OwnServer, str], there: list[str]
) -> None:
    running, printed = server
    issuer = tomllib.loads(printed)["identity"]["issuers"][0]
    assert issuer["jwks_url"] == running.log.with_name("key.pem.jwks.json").as_uri()
    written = tmp_path / "result.json"
    assert main(["run", str(tiny), *there, "--json", str(written)]) == 0
    result = msgspec.json.decode(written.read_bytes(), type=RunResult)
    assert result.server == there[1]
    assert result.cpu.tchat_s > 0


def test_a_run_that_is_told_to_end_leaves_no_process_and_no_data(tmp_path: Path) -> None:
    run_idle = "from loadtest.cli import main; main(['run', 'idle', '--people', '4', '--seconds', '60'])"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with psutil.Popen([sys.executable, "-c", run_idle], stderr=subprocess.PIPE, env=environment) as run:
        while b"idle" not in run.stderr.readline():
            pass
        others = run.children(recursive=True)
        assert others
        run.terminate()
        assert run.wait(30) != 0
    _, alive = psutil.wait_procs(others, 30)
    assert not alive
    assert not list(tmp_path.glob("tchat-loadtest-*"))
