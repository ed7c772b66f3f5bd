"""`tchat loadtest page` and `compare` from their command line, and `run --html`."""

import json
import sys
from pathlib import Path

import msgspec
import pytest

from loadtest.cli import main
from loadtest.run_result import RunResult
from tests.loadtest.results import result


def write(path: Path, run: RunResult) -> str:
    path.write_bytes(msgspec.json.encode(run))
    return str(path)


def test_a_page_is_made_of_a_result(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    assert main(["page", write(tmp_path / "a.json", result(about="Fan-out & more")), str(page)]) == 0
    assert "Fan-out &amp; more" in page.read_text(encoding="utf-8")


def test_a_comparison_is_exit_code_1_only_if_the_second_side_is_worse(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fast, slow = write(tmp_path / "a.json", result()), write(tmp_path / "b.json", result(delivered=50_000))
    assert main(["compare", fast, slow]) == 1
    assert "WORSE" in capsys.readouterr().out
    assert main(["compare", slow, fast]) == 0
    assert main(["compare", fast, slow, "--tolerance", "60"]) == 0


def test_a_comparison_is_json_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = write(tmp_path / "a.json", result())
    assert main(["compare", same, same, "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)["numbers"]
    assert {each["change_percent"] for each in numbers} == {0.0}


@pytest.mark.parametrize("arguments", [["page", "none.json", "out.html"], ["compare", "none.json", "none.json"]])
def test_a_file_that_cannot_be_read_is_said_in_a_sentence(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == "tchat loadtest: none.json: No such file or directory\n"


def test_a_run_that_could_not_make_its_page_does_not_begin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["run", "idle", "--html", "page.html"]) == 2
    assert "pip install 'tchat[loadtest]'" in capsys.readouterr().err
