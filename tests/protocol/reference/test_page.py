"""The reference page names everything there is, and its examples are what the codecs make."""

from __future__ import annotations

import re
from typing import get_args

import msgspec
import pytest

from protocol.bodies import AnyBody
from protocol.close_codes import CloseCode
from protocol.codec import JSON, MSGPACK, ServerMessage
from protocol.commands import AnyCommand
from protocol.errors import ErrorCode
from protocol.json_forms import tag_name
from protocol.reference.examples import BODIES, COMMANDS, EVENTS, REPLIES, timeline_event
from protocol.reference.page import as_markdown

PAGE = as_markdown()
EXAMPLES = [*COMMANDS, *REPLIES, *EVENTS, *(timeline_event(body) for body in BODIES)]


@pytest.mark.parametrize("struct", [*get_args(AnyCommand), *get_args(ServerMessage), *get_args(AnyBody)], ids=tag_name)
def test_every_message_has_its_section(struct: type[msgspec.Struct]) -> None:
    assert f"#### `{tag_name(struct)}` (tag {struct.__struct_config__.tag})\n" in PAGE


def test_every_code_is_named() -> None:
    assert all(f"| `{code.value}` |" in PAGE for code in ErrorCode)
    assert all(f"| {code.value} | `{code.name}` |" in PAGE for code in CloseCode)


def test_the_examples_on_the_page_decode_to_each_other() -> None:
    blocks = re.findall(r"```json\n(.+)\n```\n\n```text\n([0-9a-f\n]+)```", PAGE)
    assert len(blocks) == len(EXAMPLES)
    for example, (text, hexes) in zip(EXAMPLES, blocks, strict=True):
        is_command = example in COMMANDS
        data = bytes.fromhex(hexes.replace("\n", ""))
        from_text = JSON.decode_command(text.encode()) if is_command else JSON.decode_server(text.encode())
        from_bytes = MSGPACK.decode_command(data) if is_command else MSGPACK.decode_server(data)
        assert from_text == from_bytes == example


def test_every_link_within_the_page_leads_somewhere() -> None:
    headings = {
        re.sub(r"[^\w -]", "", line.lstrip("# ")).strip().lower().replace(" ", "-")
        for line in PAGE.splitlines()
        if line.startswith("#")
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", PAGE)) <= headings
