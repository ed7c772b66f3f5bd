"""The largest message that the types of the protocol allow, in bytes: what the limits of the configuration must fit.

The bound is of the JSON form, which is never smaller than the msgpack form: it adds the names of the fields, bytes grow
by a third (base64), an id from 18 bytes to 38, and the largest integer from 9 bytes to 16 digits. One character of a
text may take 12 bytes, because a client may escape all but ASCII, and then most emoji are two escapes of 6 bytes. White
space between tokens is not counted: a client that sends the largest message must send it compact.
"""

from __future__ import annotations

from typing import Any

from msgspec import inspect

from protocol.bodies import N, Posted, TimelineEvent
from protocol.commands import AnyCommand
from protocol.json_forms import tag_name
from protocol.limits import N_MAX

_CHARACTER_BYTES = 12
_INTEGER_BYTES = len(str(N_MAX))
_ID_BYTES = len('"01936f5e-7d3a-7c11-8a44-0a1b2c3d4e5f"')


def largest_json(kind: Any) -> int:
    """Bytes of the largest JSON text of a type. Raises TypeError for a type that has no largest text."""
    return _largest(inspect.type_info(kind))


def largest_command() -> int:
    """Bytes of the largest websocket message of a client."""
    return largest_json(AnyCommand)


def largest_event() -> int:
    """Bytes of the largest timeline event that is sent to a client."""
    return largest_json(TimelineEvent)


def largest_service_event() -> int:
    """Bytes of the largest HTTP body: a service posts an event, which has the fields of `Posted` and a number."""
    return largest_json(Posted) + len('"n":,') + largest_json(N)


def _largest(info: inspect.Type) -> int:
    match info:
        case inspect.Metadata(type=kind):
            return _largest(kind)
        case inspect.StructType():
            return _largest_object(info)
        case inspect.UnionType(types=kinds):
            return max(_largest(kind) for kind in kinds)
        case inspect.ListType(item_type=item, max_length=int(count)):
            return 1 + count * (_largest(item) + 1)
    return _largest_scalar(info)


def _largest_scalar(info: inspect.Type) -> int:
    match info:
        case inspect.StrType(max_length=int(characters)):
            size = 2 + _CHARACTER_BYTES * characters
        case inspect.BytesType(min_length=16, max_length=16) | inspect.UUIDType():
            size = _ID_BYTES
        case inspect.BytesType(max_length=int(length)):
            size = 2 + (length + 2) // 3 * 4
        case inspect.EnumType(cls=members):
            size = 2 + max(len(member.name) for member in members)
        case inspect.IntType(le=most):
            size = _INTEGER_BYTES if most is None else len(str(most))
        case inspect.BoolType():
            size = len("false")
        case inspect.NoneType():
            size = len("null")
        case _:
            raise TypeError(f"{info} has no largest JSON text")
    return size


def _largest_object(info: inspect.StructType) -> int:
    sizes = [len(f'"{field.name}":,') + _largest(field.type) for field in info.fields]
    if info.tag is not None:
        sizes.append(len(f'"tag":"{tag_name(info.cls)}",'))
    return max(len("{}"), 1 + sum(sizes))
