"""docs/protocol.json suffices to generate types: here a reader that knows nothing else translates every example."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import UUID

import msgspec
import pytest

from protocol.codec import JSON, MSGPACK
from protocol.reference.examples import BODIES, COMMANDS, EVENTS, REPLIES, timeline_event
from protocol.reference.tables import as_json

TABLES: dict[str, Any] = json.loads(as_json())
MESSAGES = {table["tag"]: table for part in ("commands", "replies", "events") for table in TABLES[part]}
BODY = {table["tag"]: table for table in TABLES["bodies"]}
STRUCTS = {table["name"]: table for table in (*TABLES["structs"], *MESSAGES.values())}
EXAMPLES = [*COMMANDS, *REPLIES, *EVENTS, *(timeline_event(body) for body in BODIES)]


def translate(table: dict[str, Any], values: list[Any]) -> dict[str, Any]:
    """The JSON object of a msgpack array, by the table of its struct."""
    head = {"tag": table["name"]} if "tag" in table else {}
    fields = values[len(head) :]
    assert len(fields) == len(table["fields"])
    return head | {field["name"]: convert(field, value) for field, value in zip(table["fields"], fields, strict=True)}


def convert(kind: dict[str, Any], value: Any) -> Any:
    if value is None:
        assert kind["nullable"]
        return None
    if kind["type"] == "list":
        return [convert(kind["items"], item) for item in value]
    if kind["type"] == "tuple":
        return [convert(*pair) for pair in zip(kind["items"], value, strict=True)]
    if kind["type"] == "struct":
        return translate(STRUCTS[kind["struct"]], value)
    if kind["type"] == "body":
        return translate(BODY[value[0]], value)
    return scalar(kind, value)


def scalar(kind: dict[str, Any], value: Any) -> Any:
    match kind["type"]:
        case "id":
            return str(UUID(bytes=value))
        case "bytes":
            return base64.b64encode(value).decode()
        case "enum":
            return {number: name for name, number in TABLES["enums"][kind["enum"]].items()}[value]
    assert isinstance(value, {"text": str, "integer": int, "boolean": bool, "number": float}[kind["type"]])
    return value


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_the_tables_translate_every_example_from_one_codec_to_the_other(example: msgspec.Struct) -> None:
    values = msgspec.msgpack.decode(MSGPACK.encode(example))
    assert translate(MESSAGES[values[0]], values) == json.loads(JSON.encode(example))


def test_a_field_without_default_is_required() -> None:
    (send,) = (table for table in TABLES["commands"] if table["name"] == "send")
    fields = {field["name"]: field for field in send["fields"]}
    assert [name for name, field in fields.items() if "default" not in field] == ["id", "dialog", "n", "payload"]
    assert (fields["payload"]["type"], fields["payload"]["max"]) == ("bytes", 60_000)
    assert fields["kind"]["default"] == "message"


def test_every_code_of_a_rule_is_in_the_catalogue() -> None:
    named = {code for command in TABLES["commands"] for code in command["rule"]["codes"]}
    assert named | set(TABLES["codes_of_every_command"]) <= TABLES["error_codes"].keys()
    assert {state for command in TABLES["commands"] for state in command["rule"]["states"]} == set(TABLES["states"])
    assert {command["rule"]["appends"] for command in TABLES["commands"]} - {None} <= {
        table["name"] for table in TABLES["bodies"]
    }
