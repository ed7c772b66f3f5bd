"""The canaries are up to date: each breaks one line that is there, names a test that exists, and is on the page.

Whether its test catches it is tried by `python -m tests.canaries`, in minutes.
"""

import ast
import functools
from pathlib import Path

import pytest

from tests.canaries.breakage import ROOT, Breakage, as_markdown, load_all

CATALOGUE = [pytest.param(each, id=each.breaks) for part in load_all().values() for each in part]


@functools.cache
def functions_of(module: str) -> frozenset[str]:
    """The names of all functions and methods of a file."""
    nodes = ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8")))
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("breakage", CATALOGUE)
def test_a_canary_breaks_one_line_that_is_there(breakage: Breakage, tmp_path: Path) -> None:
    copy = tmp_path / breakage.file
    copy.parent.mkdir(parents=True)
    whole = (ROOT / breakage.file).read_text(encoding="utf-8")
    copy.write_text(whole, encoding="utf-8")
    breakage.apply(tmp_path)
    before, after = whole.splitlines(), copy.read_text(encoding="utf-8").splitlines()
    assert len(before) == len(after)
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1


@pytest.mark.parametrize("breakage", CATALOGUE)
def test_the_test_that_a_canary_names_exists(breakage: Breakage) -> None:
    module, *names = breakage.caught_by.split("[")[0].split("::")
    assert names[-1] in functions_of(module)


def test_a_canary_whose_line_has_changed_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("x = 1\ny = 1\n", encoding="utf-8")
    for old in ("z = 1", "= 1"):
        breakage = Breakage(breaks="", file="module.py", old=old, new="", caught_by="")
        with pytest.raises(LookupError, match="renew this canary"):
            breakage.apply(tmp_path)


def test_the_page_lists_every_canary() -> None:
    assert as_markdown() in (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")
