"""Every command has exactly one handler, and every handler a command."""

from __future__ import annotations

import inspect
import pkgutil
import re
from importlib import import_module
from pathlib import Path
from typing import get_args

import pytest

from protocol.command_rules import Command
from protocol.commands import COMMANDS, Numbered
from protocol.json_forms import tag_name
from server.session import commands
from server.session.commands.changes import Changes
from server.session.commands.dispatch import find_handlers

SERVER_TESTS = Path(__file__).parents[2]


def find_families() -> list[type]:
    """The public classes of the modules of handlers, `Changes` first."""
    modules = [import_module(found.name) for found in pkgutil.iter_modules(commands.__path__, f"{commands.__name__}.")]
    classes = [
        each
        for module in modules
        for name, each in inspect.getmembers(module, inspect.isclass)
        if each.__module__ == module.__name__ and not name.startswith("_")
    ]
    return sorted(classes, key=lambda family: family is not Changes)


FAMILIES = find_families()


def found_in(*families: type) -> dict[str, str]:
    """By the name of a command the name of its handler, in `Changes` and these families.

    The families are made without the parts they work with: nothing is handled here.
    """
    others: list[object] = [object.__new__(family) for family in families if family is not Changes]
    handlers = find_handlers(object.__new__(Changes), *others)
    return {tag_name(command): getattr(handler, "__qualname__", "") for command, handler in handlers.items()}


def test_every_command_has_one_handler() -> None:
    assert set(found_in(*FAMILIES)) == {tag_name(command) for command in COMMANDS}


def test_a_change_without_a_handler_of_its_own_is_appended() -> None:
    appended = {name for name, handler in found_in(*FAMILIES).items() if handler == "Changes.append"}
    assert appended == {
        tag_name(command)
        for command in get_args(Numbered)
        if not command.rule.pipelined and not hasattr(Changes, tag_name(command))
    }
    assert "mute" in appended


@pytest.mark.parametrize("family", FAMILIES[1:], ids=lambda family: family.__name__)
def test_a_command_without_a_handler_is_named(family: type) -> None:
    left = [each for each in FAMILIES if each is not family]
    with pytest.raises(LookupError, match=r"`\w+` has 0 handlers") as raised:
        found_in(*left)
    assert any(f"`{name}`" in str(raised.value) for name in vars(family))


@pytest.mark.parametrize("family", FAMILIES[1:], ids=lambda family: family.__name__)
def test_a_command_with_two_handlers_is_named(family: type) -> None:
    with pytest.raises(LookupError, match=r"`\w+` has 2 handlers") as raised:
        found_in(*FAMILIES, family)
    assert any(f"`{name}`" in str(raised.value) for name in vars(family))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_every_public_method_handles_a_command(family: type) -> None:
    public = {name for name in vars(family) if not name.startswith("_")}
    assert public - {"append"} <= {tag_name(command) for command in COMMANDS}
    assert ("append" in public) == (family is Changes)


@pytest.mark.parametrize("command", COMMANDS, ids=tag_name)
def test_a_test_sends_the_command_to_a_node(command: type[Command]) -> None:
    sources = [path.read_text(encoding="utf-8") for path in sorted(SERVER_TESTS.rglob("test_*.py"))]
    sources.append((SERVER_TESTS.parent / "support" / "harness.py").read_text(encoding="utf-8"))
    sent = re.compile(rf"(?<![\w.]){command.__name__}\(\d")
    assert any(sent.search(source) for source in sources)
