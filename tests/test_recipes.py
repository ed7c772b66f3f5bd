"""The page of recipes names files and tests that are there: a row that sends a reader nowhere fails here."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
HEAD = "| step | file | the test that notices |\n|---|---|---|\n"
RECIPES = [
    "a command",
    "an event body",
    "an error code",
    "a config key",
    "a metric",
    "an HTTP resource",
    "a storage engine",
]


def read_tables() -> dict[str, list[list[list[str]]]]:
    """By recipe its tables: rows of three cells."""
    parts = re.split(r"^## Add (.+)$", PAGE, flags=re.MULTILINE)[1:]
    return {
        title: [
            [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table.splitlines()]
            for table in re.findall(re.escape(HEAD) + r"((?:\|.*\n)+)", text)
        ]
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }


TABLES = read_tables()
ROWS = [row for tables in TABLES.values() for table in tables for row in table]


def test_every_recipe_is_there() -> None:
    assert list(TABLES) == RECIPES
    assert all(TABLES.values())


def test_every_row_belongs_to_a_recipe() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|")]
    tables = sum(len(tables) for tables in TABLES.values())
    assert len(rows) == len(ROWS) + 2 * tables


def test_steps_are_numbered() -> None:
    numbers = [[int(row[0].split(".")[0]) for row in table] for tables in TABLES.values() for table in tables]
    assert numbers == [list(range(1, len(table) + 1)) for table in numbers]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_names_a_step_a_file_and_a_test(row: list[str]) -> None:
    step, files, tests = row
    assert re.fullmatch(r"\d+\. [A-Z].*\.", step)
    assert re.fullmatch(r"`[\w./<>-]+`(, `[\w./<>-]+`)*", files)
    assert re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`(, `tests/[\w/]+\.py::test_\w+`)*", tests)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w./<>-]+(?:/|\.(?:lock|md|py|sql|toml)))`", PAGE))))
def test_a_file_of_the_page_is_there(name: str) -> None:
    """`<name>` in a path stands for what the reader chooses; some file has that form."""
    assert list(ROOT.glob(re.sub(r"<\w+>", "*", name)))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([\w/]+\.py::\w+)`", PAGE))))
def test_a_test_of_the_page_is_there(name: str) -> None:
    path, function = name.split("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
