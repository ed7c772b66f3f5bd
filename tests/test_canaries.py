"""The canaries are up to date: each breaks one line that is there, names a test that exists, and is on the page.

Whether its test catches it is tried by `python -m tests.canaries`, in minutes.
"""

import ast
import functools
from pathlib import Path

import msgspec
import pytest

from tests.canaries.breakage import ROOT, Breakage, as_markdown, load_all

CATALOGUE = load_all()


@functools.cache
def functions_of(module: str) -> frozenset[str]:
    """The names of all functions and methods of a file."""
    nodes = ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8")))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@functools.cache
def text_of(file: str) -> str:
    """A file as it is."""
    return (ROOT / file).read_text(encoding="utf-8")


def fault_of(breakage: Breakage) -> str | None:
    """What is wrong with a canary."""
    before = text_of(breakage.file).splitlines()
    try:
        after = breakage.change(text_of(breakage.file)).splitlines()
    except LookupError as error:
        return str(error)
    if len(before) != len(after) or sum(one != other for one, other in zip(before, after, strict=True)) != 1:
        return "it changes another number of lines than one"
    module, *names = breakage.caught_by.split("[")[0].split("::")
    return None if names[-1] in functions_of(module) else "the test that it names does not exist"


@pytest.mark.parametrize("part", CATALOGUE)
def test_each_canary_breaks_one_line_that_is_there_and_names_a_test(part: str) -> None:
    assert {each.breaks: said for each in CATALOGUE[part] if (said := fault_of(each)) is not None} == {}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"new": "a\nb"}, "another number of lines"),
        ({"old": "\n"}, "not once"),
        ({"caught_by": "tests/test_canaries.py::test_nothing"}, "does not exist"),
    ],
)
def test_a_canary_with_a_fault_is_told(change: dict[str, str], fault: str) -> None:
    sound = next(iter(CATALOGUE.values()))[0]
    assert fault_of(sound) is None
    assert fault in str(fault_of(msgspec.structs.replace(sound, **change)))


def test_a_canary_whose_line_has_changed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("x = 1\ny = 1\n", encoding="utf-8")
    for old in ("z = 1", "= 1"):
        breakage = Breakage(breaks="", file="module.py", old=old, new="", caught_by="")
        with pytest.raises(LookupError, match="renew this canary"):
            breakage.apply(tmp_path)


def test_the_page_lists_every_canary() -> None:
    assert as_markdown() in (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
