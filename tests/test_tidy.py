"""What keeps the house tidy, as tests: declared imports, files that can be read in one go, nothing of one machine.

Which room may import which is held to the drawing by `tests/house.py`.

A file of more than LINES_MAX lines is an error; one of more than LINES_ASKED must be on the list below, which may only
shrink: splitting a file takes it off, and a name on the list that is no longer needed is an error too.
"""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.house import ENTRY_POINT, PACKAGES, imports_of

ROOT = Path(__file__).parents[1]
LINES_ASKED = 500
LINES_MAX = 800
ASKED_AND_ANSWERED: frozenset[str] = frozenset()

# Where packages come from, and the folders that only some machine has.
FORBIDDEN = {
    "a package registry": r"(?i)pypi\.org|pythonhosted|registry\.npmjs|files\.pypi|--(extra-)?index-url|artifactory",
    "a home folder": r"/(home|Users)/\w+/|/root/|\bC:\\\\Users",
    "a folder of one machine": r"(?<![\w.~}])/work(/|\b(?!-))",
}
BINARY = {".png", ".ico", ".gz", ".jpg", ".woff2"}


def tracked_files() -> list[Path]:
    """Every file that is or would be committed."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted(path for name in names if name and (path := ROOT / name).is_file())


FILES = tracked_files()
PYTHON = [path for path in FILES if path.suffix == ".py"]
TEXTS = [path for path in FILES if path.suffix not in BINARY]


def name_of(path: Path) -> str:
    """The path within the repository."""
    return path.relative_to(ROOT).as_posix()


# In one process, so that each file is parsed once.
pytestmark = pytest.mark.xdist_group("tidy")


@pytest.fixture(scope="session")
def parsed() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in PYTHON}


def imported_packages(tree: ast.AST) -> set[str]:
    """The first part of every imported module's name, wherever the import stands."""
    return {found.name.split(".")[0] for found in imports_of(tree)}


def test_the_entry_point_imports_other_packages_only_when_it_needs_them(parsed: dict[Path, ast.Module]) -> None:
    at_the_top = ast.Module(
        [node for node in parsed[ROOT / ENTRY_POINT].body if isinstance(node, ast.Import | ast.ImportFrom)], []
    )
    ours = {found.name for found in imports_of(at_the_top) if found.name.split(".")[0] in PACKAGES}
    assert all(name.startswith(("server.node.commerce_cli.", "server.node.started.")) for name in ours)


def test_what_is_imported_is_a_declared_dependency(parsed: dict[Path, ast.Module]) -> None:
    """Found through another package's dependencies, a module may be gone with that package's next version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]["loadtest"]
    declared = {re.split(r"[\[<>=]", line)[0] for line in project["dependencies"] + extras}
    distributions = {
        "cassandra": "scylla-driver",
        "hdrh": "hdrhistogram",
        "jwt": "pyjwt",
        "nacl": "pynacl",
        "prometheus_client": "prometheus-client",
    }
    known = {*PACKAGES, *sys.stdlib_module_names}
    missing = {
        f"{name_of(path)}: {module}"
        for path in PYTHON
        if path.relative_to(ROOT).parts[0] in PACKAGES
        for module in imported_packages(parsed[path])
        if module not in known and distributions.get(module, module) not in declared
    }
    assert missing == set()


def test_no_test_sleeps(parsed: dict[Path, ast.Module]) -> None:
    """A test awaits what it waits for, or moves its clock; yielding to the loop, `sleep(0)`, is no sleep."""
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in PYTHON
        if path.relative_to(ROOT).parts[0] == "tests" and path.stem.startswith(("test_", "conftest"))
        for node in ast.walk(parsed[path])
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in {"time.sleep", "asyncio.sleep", "anyio.sleep", "sleep"}
        and ast.unparse(node.args[0]) != "0"
    ]
    assert found == []


def test_every_module_says_what_it_is(parsed: dict[Path, ast.Module]) -> None:
    assert [name_of(path) for path in PYTHON if not ast.get_docstring(parsed[path])] == []


def test_no_docstring_only_says_see(parsed: dict[Path, ast.Module]) -> None:
    """A method that fills a Protocol needs no docstring; one that names the Protocol says nothing more."""
    found = [
        f"{name_of(path)}:{node.lineno}: {node.name}"
        for path in PYTHON
        if path.relative_to(ROOT).parts[0] in PACKAGES
        for node in ast.walk(parsed[path])
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and re.fullmatch(r"See `[^`]+`\.?", ast.get_docstring(node) or "")
    ]
    assert found == []


def test_no_module_is_named_after_nothing_in_particular() -> None:
    vague = {"utils", "util", "helpers", "helper", "manager", "common", "misc"}
    assert [name_of(path) for path in PYTHON if path.stem in vague] == []


def test_a_file_can_be_read_in_one_go() -> None:
    lengths = {name_of(path): len(path.read_text(encoding="utf-8").splitlines()) for path in PYTHON}
    assert {name: lines for name, lines in lengths.items() if lines > LINES_MAX} == {}
    asked = {name for name, lines in lengths.items() if lines > LINES_ASKED}
    assert asked == ASKED_AND_ANSWERED, f"over {LINES_ASKED} lines: split along a seam that has a name"


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_names(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{name_of(path)}:{number}: {line.strip()[:100]}"
        for path in TEXTS
        if path != Path(__file__)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert found == []


def test_tests_of_a_group_run_in_one_process(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("loadgroup", False):
        assert request.node.nodeid.endswith("@tidy"), "this pytest and this pytest-xdist do not group tests"


def test_the_lock_file_pins_everything_with_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text()
    requirements = [part for part in re.split(r"\n(?=\S)", text.replace("\\\n", " ").strip()) if part]
    assert requirements
    assert [line for line in requirements if "==" not in line or "--hash=sha256:" not in line] == []


def test_the_lock_file_satisfies_what_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + project["optional-dependencies"]["dev"]
    pinned = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {re.split(r"[\[<>=]", line)[0] for line in declared} <= pinned


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + project["optional-dependencies"]["dev"]
    reasons = re.findall(r"^\| `([\w.-]+)` \|", (ROOT / "docs" / "dependencies.md").read_text(), re.MULTILINE)
    assert sorted(reasons) == sorted(re.split(r"[\[<>=]", line)[0] for line in declared)
