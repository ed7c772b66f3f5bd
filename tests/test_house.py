"""What `python -m tests.house` finds: nothing in this repository, and in small trees what is wrong with them."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.house import DRAWING, PACKAGES, ROOT, as_text, find_circles, inspect, read_drawing

TIDY = {
    "high/__init__.py": "",
    "high/roof.py": "from low.cellar import Coal\n",
    "low/__init__.py": "",
    "low/cellar.py": "class Coal: ...\n",
}
DRAWN = "high -> low\nlow\n"


def findings(
    root: Path, files: Mapping[str, str], drawing: str = DRAWN, same_meaning: Mapping[str, str] | None = None
) -> list[str]:
    """What the tool says of a tree of these files."""
    page = f"# Architecture\n\n```\na picture\n```\n\n```rooms\n{drawing}```\n"
    for name, text in {**files, "docs/architecture.md": page}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return inspect(root, ("high", "low", "server", "tchat"), same_meaning or {}).findings


def test_the_code_is_as_drawn() -> None:
    assert inspect().findings == []


def test_the_page_of_the_drawing_names_every_module() -> None:
    page = (ROOT / DRAWING).read_text()
    modules = {path.name for package in PACKAGES for path in (ROOT / package).rglob("*.py")}
    assert [name for name in sorted(modules) if not name.startswith("__") and f"`{name}`" not in page] == []


def test_a_tree_as_drawn_has_no_findings(tmp_path: Path) -> None:
    assert findings(tmp_path, TIDY) == []


def test_a_circle_under_type_checking_is_found(tmp_path: Path) -> None:
    hidden = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from low.stairs import Step\nclass Coal: ...\n"
    stairs = "from low.cellar import Coal\nclass Step: ...\n"
    found = findings(tmp_path, {**TIDY, "low/cellar.py": hidden, "low/stairs.py": stairs})
    assert found == ["modules: low.cellar, low.stairs"]


def test_a_circle_within_functions_is_found(tmp_path: Path) -> None:
    cellar = "class Coal:\n    def burn(self):\n        from low import stairs\n"
    found = findings(tmp_path, {**TIDY, "low/cellar.py": cellar, "low/stairs.py": "import low.cellar\n"})
    assert found == ["modules: low.cellar, low.stairs"]


def test_a_circle_of_rooms_is_found_though_no_two_modules_make_one(tmp_path: Path) -> None:
    found = findings(tmp_path, {**TIDY, "low/door.py": "import high\n"})
    assert found == ["rooms: high, low", "low -> high: not on the drawing; imported by low/door.py:1"]


def test_circles_that_share_no_node_are_separate() -> None:
    graph = {"a": ["b"], "b": ["a", "c"], "c": ["d"], "d": ["c"], "e": ["e", "a"]}
    assert find_circles(graph) == [["a", "b"], ["c", "d"]]


def test_an_arrow_against_the_drawing_is_found_with_its_places(tmp_path: Path) -> None:
    found = findings(tmp_path, TIDY, "high\nlow\n")
    assert found == ["high -> low: not on the drawing; imported by high/roof.py:1"]


def test_many_places_of_one_arrow_are_cut_short(tmp_path: Path) -> None:
    roof = "from low.cellar import Coal\n" * 6
    (found,) = findings(tmp_path, {**TIDY, "high/roof.py": roof}, "high\nlow\n")
    assert found.endswith("high/roof.py:4, and 2 more")


def test_an_import_of_the_tests_is_an_arrow_against_the_drawing(tmp_path: Path) -> None:
    found = findings(tmp_path, {**TIDY, "low/cellar.py": "from tests.support import clock\nclass Coal: ...\n"})
    assert found == ["low -> tests: not on the drawing; imported by low/cellar.py:1"]


def test_a_room_that_is_not_on_the_drawing_is_found(tmp_path: Path) -> None:
    found = findings(tmp_path, {**TIDY, "low/vault/__init__.py": ""})
    assert found == ["low/vault: a room that is not on the drawing"]


def test_a_room_of_the_drawing_that_does_not_exist_is_found(tmp_path: Path) -> None:
    assert findings(tmp_path, TIDY, f"{DRAWN}low/vault\n") == ["low/vault: on the drawing, but no such room"]


def test_an_arrow_of_the_drawing_that_nothing_imports_is_found(tmp_path: Path) -> None:
    found = findings(tmp_path, {**TIDY, "high/roof.py": ""})
    assert found == ["high -> low: on the drawing, but nothing imports it"]


def test_an_arrow_of_the_drawing_that_points_up_is_found(tmp_path: Path) -> None:
    assert findings(tmp_path, TIDY, "low\nhigh -> low\n") == ["high -> low: on the drawing, but low is not below high"]


def test_a_page_without_a_drawing_draws_no_room() -> None:
    assert read_drawing("# Architecture\n\n```\nhigh -> low\n```\n") == {}


def test_an_indented_line_of_the_drawing_continues_the_one_above() -> None:
    assert read_drawing("```rooms\na -> b\n     c\nb\n\nc\n```\n") == {"a": ["b", "c"], "b": [], "c": []}


def test_a_file_that_cannot_be_imported_is_in_the_room_above(tmp_path: Path) -> None:
    assert findings(tmp_path, {**TIDY, "low/migrations/0001_core.py": "from low.cellar import Coal\n"}) == []


def test_only_functions_of_the_entry_point_may_start_the_terminal_client(tmp_path: Path) -> None:
    tree = {
        "tchat/terminal/__init__.py": "",
        "server/node/cli.py": "def chat():\n    from tchat.terminal import main\n",
    }
    drawing = "server/node\ntchat/terminal\n"
    assert findings(tmp_path, tree, drawing) == []
    at_the_top = {**tree, "server/node/cli.py": "from tchat.terminal import main\n"}
    assert len(findings(tmp_path, at_the_top, drawing)) == 1
    elsewhere = {**tree, "server/node/cli.py": "", "server/node/drain.py": tree["server/node/cli.py"]}
    assert len(findings(tmp_path, elsewhere, drawing)) == 1


def test_a_class_name_with_two_meanings_is_found(tmp_path: Path) -> None:
    found = findings(tmp_path, {**TIDY, "high/grate.py": "class Coal: ...\n"})
    assert found == ["Coal: shared by high/grate.py, low/cellar.py"]


def test_a_class_within_a_class_has_a_name_of_its_own_too(tmp_path: Path) -> None:
    found = findings(tmp_path, {**TIDY, "high/grate.py": "class Grate:\n    class Coal: ...\n"})
    assert found == ["Coal: shared by high/grate.py, low/cellar.py"]


@pytest.mark.parametrize("other", ["high/cellar.py", "high/cellar/__init__.py"])
def test_a_name_of_two_modules_or_of_a_module_and_a_folder_is_found(tmp_path: Path, other: str) -> None:
    drawing = "high -> low\nhigh/cellar\nlow\n" if "__init__" in other else DRAWN
    assert findings(tmp_path, {**TIDY, other: ""}, drawing) == [f"cellar: shared by {other}, low/cellar.py"]


def test_a_shared_name_with_one_meaning_is_allowed(tmp_path: Path) -> None:
    assert findings(tmp_path, {**TIDY, "high/cellar.py": ""}, same_meaning={"cellar": "Where coal is."}) == []


def test_an_allowed_name_that_is_no_longer_shared_is_found(tmp_path: Path) -> None:
    assert findings(tmp_path, TIDY, same_meaning={"cellar": "Where coal is."}) == [
        "cellar: in SAME_MEANING, but not shared"
    ]


def test_the_report_names_rooms_arrows_and_sizes(tmp_path: Path) -> None:
    assert findings(tmp_path, TIDY) == []
    lines = as_text(inspect(tmp_path, ("high", "low"), {})).splitlines()
    assert [line.split() for line in lines[1:4]] == [["high", "2", "1", "low"], ["low", "2", "1"], ["all", "4", "2"]]
    assert "largest file high/roof.py, 1 lines; median 0 lines" in lines
    assert lines[-1] == "the code is as docs/architecture.md draws it"
