"""The JSON form of every type of the protocol, built once from its annotations.

A struct of the protocol is an array with an integer tag. Its form is a struct of the same fields that msgspec reads as
an object: the tag by name, ids as UUID text, bytes in base64, enums by name, and the same limits. So JSON is decoded
with its types and limits checked at once, and nothing that a client invents is ever built as a value.
"""

from __future__ import annotations

import base64
import enum
import functools
import operator
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from protocol import ids

_UUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z"


def tag_name(struct: type[msgspec.Struct]) -> str:
    """The name of a struct's tag in JSON: its class name in snake case."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", struct.__name__.removesuffix("Raw")).lower()


@dataclass(frozen=True, slots=True)
class Form:
    """The JSON form of a type. `type` is what msgspec decodes."""

    type: Any
    load: Callable[[Any], Any]
    """From a decoded value of `type` to one of the protocol."""
    dump: Callable[[Any], Any]
    """From a value of the protocol to plain JSON data."""


def _same(value: Any) -> Any:
    return value


_cache: dict[type, Form] = {}


def form_of(hint: Any) -> Form:
    """The form of an annotation."""
    origin = get_origin(hint)
    if origin is Annotated:
        return _ID if hint == ids.Id else _annotated(hint)
    if origin in (Union, types.UnionType):
        return _union_form([arm for arm in get_args(hint) if arm is not types.NoneType])
    if origin is list:
        return _list_form(form_of(get_args(hint)[0]))
    return _class_form(hint) if isinstance(hint, type) else Form(hint, _same, _same)


def _annotated(hint: Any) -> Form:
    plain, *limits = get_args(hint)
    form = form_of(plain)
    return Form(Annotated[(form.type, *limits)], form.load, form.dump)


def _class_form(hint: type) -> Form:
    if issubclass(hint, msgspec.Struct):
        if hint not in _cache:
            _cache[hint] = _struct_form(hint)
        return _cache[hint]
    if issubclass(hint, enum.IntEnum):
        return _enum_form(hint)
    return _BYTES if hint is bytes else Form(hint, _same, _same)


def _struct_form(struct: type[msgspec.Struct]) -> Form:
    hints = get_type_hints(struct, include_extras=True)
    forms = [(field, form_of(hints[field.name])) for field in msgspec.structs.fields(struct)]
    tag = None if struct.__struct_config__.tag is None else tag_name(struct)
    fields = [
        (field.name, form.type) if field.required else (field.name, form.type | msgspec.UnsetType, msgspec.UNSET)
        for field, form in forms
    ]
    read = msgspec.defstruct(struct.__name__, fields, gc=False, tag_field=tag and "tag", tag=tag)
    loads = [(field.name, form.load) for field, form in forms]
    dumps = [(field.name, form.dump) for field, form in forms]
    head = {} if tag is None else {"tag": tag}

    def load(value: Any) -> msgspec.Struct:
        given = ((name, load, getattr(value, name)) for name, load in loads)
        return struct(**{name: load(one) for name, load, one in given if one is not msgspec.UNSET})

    def dump(value: Any) -> dict[str, Any]:
        return head | {name: dump(getattr(value, name)) for name, dump in dumps}

    return Form(read, load, dump)


def _union_form(arms: list[Any]) -> Form:
    """A tagged union of structs, or one type that may be absent."""
    if len(arms) == 1:
        one = form_of(arms[0])
        return Form(
            one.type | None,
            lambda value: None if value is None else one.load(value),
            lambda value: None if value is None else one.dump(value),
        )
    forms = [_class_form(arm) for arm in arms]
    loads = {form.type: form.load for form in forms}
    return Form(
        functools.reduce(operator.or_, loads),
        lambda value: loads[type(value)](value),
        lambda value: _class_form(type(value)).dump(value),
    )


def _list_form(item: Form) -> Form:
    if item.load is _same:
        return Form(list[item.type], _same, _same)  # type: ignore[name-defined]
    return Form(
        list[item.type],  # type: ignore[name-defined]
        lambda value: [item.load(one) for one in value],
        lambda value: [item.dump(one) for one in value],
    )


def _enum_form(kind: type[enum.IntEnum]) -> Form:
    members = {member.name.lower(): member for member in kind}
    names = {member: name for name, member in members.items()}
    return Form(Literal[tuple(members)], members.__getitem__, lambda value: names[kind(value)])


_ID = Form(Annotated[str, msgspec.Meta(pattern=_UUID)], lambda text: bytes.fromhex(text.replace("-", "")), ids.to_text)
_BYTES = Form(bytes, _same, lambda value: base64.b64encode(value).decode("ascii"))
