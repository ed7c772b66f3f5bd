"""The protocol as tables, for programs that generate types from them: `python -m protocol.reference --json`.

The order is stable: messages by tag, fields as on the wire, keys and sets by name. `SCHEMA` grows when the form of the
tables changes in a way that a reader of the old form would misread; keys may be added without that.
"""

from __future__ import annotations

import ast
import enum
import inspect
import json
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec

from protocol import limits
from protocol.bodies import AnyBody, tag_of
from protocol.close_codes import CloseCode
from protocol.codec import CODECS
from protocol.command_rules import EVERY_COMMAND, CommandRule
from protocol.commands import COMMANDS
from protocol.dialog_types import DIALOG_TYPES, DialogType, Mode, Role
from protocol.errors import ErrorCode
from protocol.events import AnyEvent
from protocol.ids import Id
from protocol.json_forms import form_of, tag_name
from protocol.kinds import KINDS, Kind
from protocol.payment_commands import PayAction
from protocol.replies import AnyReply
from protocol.states import SessionState

SCHEMA = 1
_ENUMS = (DialogType, Kind, Mode, PayAction, Role)
_PLAIN: dict[object, str] = {bool: "boolean", float: "number", int: "integer", str: "text", bytes: "bytes"}

Table = dict[str, Any]


def as_json() -> str:
    """All tables."""
    return json.dumps(make_tables(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def make_tables() -> Table:
    """All tables, by their names."""
    return {
        "schema": SCHEMA,
        "subprotocols": sorted(CODECS),
        "commands": [{**_message(command), "rule": _rule(command.rule)} for command in COMMANDS],
        "codes_of_every_command": _codes(EVERY_COMMAND),
        "replies": [_message(struct) for struct in _by_tag(AnyReply)],
        "events": [_message(struct) for struct in _by_tag(AnyEvent)],
        "bodies": [_message(struct) for struct in _by_tag(AnyBody)],
        "structs": [_struct(struct) for struct in list_shared()],
        "enums": {_name(numbers): {each.name.lower(): each.value for each in numbers} for numbers in _ENUMS},
        "states": [state.value for state in SessionState],
        "kinds": {kind.name.lower(): _row(rule) for kind, rule in KINDS.items()},
        "dialog_types": {kind.name.lower(): _row(rule) for kind, rule in DIALOG_TYPES.items()},
        "error_codes": {code.value: {"temporary": code.temporary, "sentence": code.sentence} for code in ErrorCode},
        "close_codes": {
            str(code.value): {"name": code.name.lower(), "advice": code.advice.name.lower(), "meaning": code.meaning}
            for code in CloseCode
        },
        "limits": {name: {"value": value, "meaning": meaning} for name, value, meaning in list_limits()},
    }


def list_shared() -> list[type[msgspec.Struct]]:
    """The structs without a tag, which stand in fields of others, by name."""
    found: set[type[msgspec.Struct]] = set()
    for struct in (*COMMANDS, *get_args(AnyReply), *get_args(AnyEvent), *get_args(AnyBody)):
        _find_structs(struct, found)
    return sorted((struct for struct in found if struct.__struct_config__.tag is None), key=tag_name)


def _find_structs(hint: Any, found: set[type[msgspec.Struct]]) -> None:
    """Add the structs that an annotation names, and those of their fields."""
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct) and hint not in found:
        found.add(hint)
        for of_field in get_type_hints(hint, include_extras=True).values():
            _find_structs(of_field, found)
    for part in get_args(hint):
        _find_structs(part, found)


def list_limits() -> Iterator[tuple[str, int, str]]:
    """Each limit of the protocol with its value and the text below it in the module, which may be empty."""
    body = ast.parse(Path(limits.__file__).read_text(encoding="utf-8")).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            said = following.value if isinstance(following, ast.Expr) else None
            text = str(said.value) if isinstance(said, ast.Constant) else ""
            yield name.lower(), getattr(limits, name), " ".join(text.split())


def _by_tag(union: Any) -> list[type[msgspec.Struct]]:
    return sorted(get_args(union), key=tag_of)


def _message(struct: type[msgspec.Struct]) -> Table:
    return {**_struct(struct), "tag": tag_of(struct)}


def _struct(struct: type[msgspec.Struct]) -> Table:
    hints = get_type_hints(struct, include_extras=True)
    fields = [_field(field, hints[field.name]) for field in msgspec.structs.fields(struct)]
    return {"name": tag_name(struct), "meaning": inspect.getdoc(struct) or "", "fields": fields}


def _field(field: msgspec.structs.FieldInfo, hint: Any) -> Table:
    """A field without `default` is required. A default is written as under json."""
    table = {"name": field.name, **_type(hint)}
    if field.default_factory is not msgspec.NODEFAULT:
        table["default"] = form_of(hint).dump(field.default_factory())
    elif field.default is not msgspec.NODEFAULT:
        table["default"] = form_of(hint).dump(field.default)
    return table


def _type(hint: Any) -> Table:
    """`type`, and what it depends on: bounds, the type of the items, the name of a struct or an enum."""
    origin, arms = get_origin(hint), get_args(hint)
    if origin is Annotated:
        meta = next(one for one in arms[1:] if isinstance(one, msgspec.Meta))
        return {"type": "id"} if hint == Id else _type(arms[0]) | _bounds(meta)
    if origin in (Union, types.UnionType):
        held = [arm for arm in arms if arm is not types.NoneType]
        return _type(held[0]) | {"nullable": True} if len(held) == 1 else {"type": "body"}
    if origin is list:
        return {"type": "list", "items": _type(arms[0])}
    if origin is tuple:
        return {"type": "tuple", "items": [_type(arm) for arm in arms]}
    return _named(hint)


def _named(hint: Any) -> Table:
    if issubclass(hint, msgspec.Struct):
        return {"type": "struct", "struct": tag_name(hint)}
    if issubclass(hint, enum.IntEnum):
        return {"type": "enum", "enum": _name(hint)}
    return {"type": _PLAIN[hint]}


def _bounds(meta: msgspec.Meta) -> Table:
    """`min` and `max`: of a number its value; of a text its code points, of bytes and lists their length."""
    low, high = (meta.ge, meta.le) if meta.min_length is meta.max_length is None else (meta.min_length, meta.max_length)
    return {name: bound for name, bound in (("min", low), ("max", high)) if bound is not None}


def _rule(rule: CommandRule) -> Table:
    """`codes` are the refusals that are possible beside those of every command."""
    return {
        "states": [state.value for state in SessionState if state in rule.states],
        "appends": None if rule.appends is None else tag_name(rule.appends),
        "timeline": None if rule.appends is None else rule.timeline.name.lower(),
        "pipelined": rule.pipelined,
        "codes": _codes(rule.codes - EVERY_COMMAND),
    }


def _row(rule: Any) -> Table:
    """A row of a catalogue; enums by name."""
    values = {name: getattr(rule, name) for name in rule.__dataclass_fields__}
    return {name: value.name.lower() if isinstance(value, enum.Enum) else value for name, value in values.items()}


def _codes(codes: Iterable[ErrorCode]) -> list[str]:
    return sorted(code.value for code in codes)


def _name(numbers: type[enum.IntEnum]) -> str:
    return tag_name(numbers)  # type: ignore[arg-type]  # it reads the name of the class alone
