"""A key that nothing reads is none: an operator would set it, and nothing would change."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest

from server.config.settings import Config

SERVER = Path(__file__).parents[3] / "server"

READ = {
    node.attr
    for path in sorted(SERVER.rglob("*.py"))
    if path.parent.name != "config"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    if isinstance(node, ast.Attribute)
}
"""The names of the attributes that the server reads."""

KEYS = [
    (section.name, key.name)
    for section in msgspec.structs.fields(Config)
    for key in msgspec.structs.fields(section.type)
]


@pytest.mark.parametrize(("section", "key"), KEYS)
def test_the_server_reads_the_key(section: str, key: str) -> None:
    """The file of a secret is read with the configuration, and then only the secret."""
    assert section in READ
    assert key.removesuffix("_file") in READ
