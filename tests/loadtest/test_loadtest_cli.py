"""`tchat loadtest` from its command line."""

import resource
from pathlib import Path

import msgspec
import pytest

from loadtest import scenario as scenarios
from loadtest.cli import main
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


def test_a_threshold_that_does_not_hold_is_exit_code_1(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_text(TINY + "ack_p50_ms = { at_most = 0.0 }")
    assert main(["run", str(tiny)]) == 1
    assert "ack_p50_ms" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no-such"], "no scenario 'no-such'"),
        (["direct", "--people", "0"], "people"),
        (["direct", "--url", "ftp://127.0.0.1"], "no URL of a server"),
        (["direct", "--url", "http://127.0.0.1:9"], "refused"),
        (["direct", "--url", "http://127.0.0.1:9", "--issuer-key", "/no/such/file"], "no Ed25519 private key"),
        (["rooms", "--people", "6"], "cannot have 10 writers in dialogs of 100"),
    ],
)
def test_what_cannot_start_is_exit_code_2_and_a_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("tchat loadtest: ")
    assert said in last


@pytest.mark.parametrize(("arguments", "said"), [([], "--workers"), (["--workers", "4"], "ulimit -n")])
def test_too_few_open_files_are_said_before_anything_starts(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1_000, 1_000))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    assert main(["run", "idle", "--people", "2000", *arguments]) == 2
    assert said in capsys.readouterr().err
