"""Two codecs for one set of types.

`tchat.v1.msgpack` writes each struct as an array, tag first: `[10, 1, dialog, n, payload, ...]`.
`tchat.v1.json` writes the same struct as an object with the names of its fields, the tag by name
(`{"tag": "send", "id": 1, ...}`), ids as UUID text, other bytes in base64, enums by name. One bridge,
built once from the annotations, serves every type in both directions; limits are checked in one place,
by msgspec, whichever codec the bytes came in.
"""

from __future__ import annotations

import base64
import binascii
import enum
import re
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Protocol, Union, get_args, get_origin, get_type_hints

import msgspec

from protocol import ids
from protocol.bodies import AnyBody, Erased, TimelineEvent, TimelineEventRaw
from protocol.commands import AnyCommand
from protocol.errors import ErrorCode
from protocol.events import AnyEvent
from protocol.limits import N_MAX
from protocol.replies import AnyReply

ServerMessage = AnyReply | AnyEvent | TimelineEvent

_BAD_INPUT = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)


class HistoryPageRaw(msgspec.Struct, array_like=True, frozen=True, tag_field="tag", tag=55):
    """`HistoryPage` with its events as stored: what the server sends."""

    id: int
    dialog: bytes
    events: list[TimelineEventRaw]
    later: list[TimelineEventRaw]
    more: bool


class CodecError(Exception):
    """The bytes are not a message of the protocol. `request_id` is that of the command, 0 if it cannot be read."""

    def __init__(self, code: ErrorCode, detail: str, request_id: int = 0) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.request_id = request_id


class Codec(Protocol):
    """Encodes a struct as the bytes of one websocket message, and decodes them."""

    subprotocol: str
    text: bool

    def encode(self, message: msgspec.Struct) -> bytes:
        """The bytes of any struct of the protocol, raw ones included."""

    def decode_command(self, data: bytes) -> AnyCommand:
        """A command; raises `CodecError` if the bytes are not one."""

    def decode_server(self, data: bytes) -> ServerMessage | None:
        """A reply or event, None if its tag is unknown; raises `CodecError` if the bytes are neither."""


class MsgpackCodec:
    """The binary codec: arrays, ids and payloads as they are."""

    subprotocol = "tchat.v1.msgpack"
    text = False

    def __init__(self) -> None:
        self.encode: Callable[[msgspec.Struct], bytes] = msgspec.msgpack.Encoder().encode
        self._commands = msgspec.msgpack.Decoder(AnyCommand)
        self._server = msgspec.msgpack.Decoder(ServerMessage)

    def decode_command(self, data: bytes) -> AnyCommand:
        try:
            command: AnyCommand = self._commands.decode(data)
        except _BAD_INPUT as error:
            raise _explain(_loose(msgspec.msgpack.decode, data), error) from None
        return command

    def decode_server(self, data: bytes) -> ServerMessage | None:
        try:
            message: ServerMessage = self._server.decode(data)
        except _BAD_INPUT as error:
            array = _loose(msgspec.msgpack.decode, data, list)
            return _newer(array, lambda known: msgspec.convert(known, ServerMessage), error)
        return message


class JsonCodec:
    """The text codec: objects with the names of the fields."""

    subprotocol = "tchat.v1.json"
    text = True

    def encode(self, message: msgspec.Struct) -> bytes:
        if isinstance(message, (TimelineEventRaw, HistoryPageRaw)):
            message = msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=ServerMessage)
        return msgspec.json.encode(_struct_bridge(type(message)).dump(message))

    def decode_command(self, data: bytes) -> AnyCommand:
        loose = _loose(msgspec.json.decode, data)
        array: object = loose
        try:
            array = _COMMANDS.load(loose)
            command: AnyCommand = msgspec.convert(array, AnyCommand)
        except _BAD_INPUT as error:
            raise _explain(array if isinstance(array, list) else loose, error) from None
        return command

    def decode_server(self, data: bytes) -> ServerMessage | None:
        loose = _loose(msgspec.json.decode, data, dict)
        try:
            return _from_json(loose)
        except _BAD_INPUT as error:
            return _newer(loose, _from_json, error)


MSGPACK = MsgpackCodec()
JSON = JsonCodec()
CODECS: dict[str, Codec] = {codec.subprotocol: codec for codec in (MSGPACK, JSON)}


def tag_name(struct: type[msgspec.Struct]) -> str:
    """The name of a struct's tag in JSON: its class name in snake case."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", struct.__name__.removesuffix("Raw")).lower()


@dataclass(frozen=True, slots=True)
class _Bridge:
    """`dump` turns a value into plain JSON data; `load` turns that into what `msgspec.convert` takes."""

    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]


_PLAIN = _Bridge(lambda value: value, lambda value: value)
_cache: dict[type, _Bridge] = {}


def _bridge(hint: Any) -> _Bridge:
    origin = get_origin(hint)
    if origin is Annotated:
        return _ID if hint == ids.Id else _bridge(get_args(hint)[0])
    if origin in (Union, types.UnionType):
        return _union_bridge([arm for arm in get_args(hint) if arm is not types.NoneType])
    if origin in (list, tuple):
        return _each(_bridge(get_args(hint)[0]))
    return _class_bridge(hint) if isinstance(hint, type) else _PLAIN


def _class_bridge(hint: type) -> _Bridge:
    if issubclass(hint, msgspec.Struct):
        return _struct_bridge(hint)
    if issubclass(hint, enum.IntEnum):
        return _enum_bridge(hint)
    return _BYTES if hint is bytes else _PLAIN


def _struct_bridge(struct: type[msgspec.Struct]) -> _Bridge:
    if struct in _cache:
        return _cache[struct]
    hints = get_type_hints(struct, include_extras=True)
    fields = [(field, _bridge(hints[field.name])) for field in msgspec.structs.fields(struct)]
    tag = struct.__struct_config__.tag
    head = {} if tag is None else {"tag": tag_name(struct)}

    def dump(value: Any) -> dict[str, Any]:
        return head | {field.name: bridge.dump(getattr(value, field.name)) for field, bridge in fields}

    def load(value: Any) -> list[Any]:
        if not isinstance(value, dict):
            raise msgspec.ValidationError(f"`{tag_name(struct)}` must be an object")
        array = [] if tag is None else [tag]
        for field, bridge in fields:
            if field.name in value:
                array.append(bridge.load(value[field.name]))
            elif field.default is not msgspec.NODEFAULT:
                array.append(field.default)
            elif field.default_factory is not msgspec.NODEFAULT:
                array.append(field.default_factory())
            else:
                raise ValueError(f"`{tag_name(struct)}` lacks the field `{field.name}`")
        return array

    _cache[struct] = _Bridge(dump, load)
    return _cache[struct]


def _union_bridge(arms: list[Any]) -> _Bridge:
    """A tagged union of structs, or one type that may be absent."""
    if len(arms) == 1:
        one = _bridge(arms[0])
        return _Bridge(
            lambda value: None if value is None else one.dump(value),
            lambda value: None if value is None else one.load(value),
        )
    by_name = {tag_name(arm): _struct_bridge(arm) for arm in arms}

    def load(value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("tag"), str):
            raise msgspec.ValidationError("an object with a `tag` is expected")
        bridge = by_name.get(value["tag"])
        if bridge is None:
            raise _UnknownTagError(f"unknown tag `{value['tag'][:64]}`")
        return bridge.load(value)

    return _Bridge(lambda value: _struct_bridge(type(value)).dump(value), load)


class _UnknownTagError(ValueError):
    pass


def _each(bridge: _Bridge) -> _Bridge:
    if bridge is _PLAIN:
        return _PLAIN

    def load(value: Any) -> Any:
        return [bridge.load(item) for item in value] if isinstance(value, list) else value

    return _Bridge(lambda value: [bridge.dump(item) for item in value], load)


def _enum_bridge(kind: type[enum.IntEnum]) -> _Bridge:
    names = {member.name.lower(): member.value for member in kind}

    def load(value: Any) -> int:
        if not isinstance(value, str) or value not in names:
            raise ValueError(f"one of {', '.join(sorted(names))} is expected, not {str(value)[:64]!r}")
        return names[value]

    return _Bridge(lambda value: kind(value).name.lower(), load)


def _load_id(value: Any) -> bytes:
    if not isinstance(value, str):
        raise msgspec.ValidationError("an id is text in the form of a UUID")
    return ids.from_text(value)


def _load_bytes(value: Any) -> bytes:
    if not isinstance(value, str):
        raise msgspec.ValidationError("bytes are text in base64")
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        raise ValueError("bytes are text in base64") from None


_ID = _Bridge(ids.to_text, _load_id)
_BYTES = _Bridge(lambda value: base64.b64encode(value).decode("ascii"), _load_bytes)
_COMMANDS = _bridge(AnyCommand)
_SERVER = _bridge(ServerMessage)
_BODY = _bridge(AnyBody)
_COMMAND_TAGS = {arm.__struct_config__.tag: arm for arm in get_args(AnyCommand)}
_SERVER_TAGS = {arm.__struct_config__.tag for arm in get_args(ServerMessage)}
_SERVER_NAMES = {tag_name(arm) for arm in get_args(ServerMessage)}


def _loose(decode: Callable[[bytes], Any], data: bytes, kind: type = object) -> Any:
    """The value in the bytes without a check of types, None if it is not of that kind."""
    try:
        value = decode(data)
    except _BAD_INPUT:
        return None
    return value if isinstance(value, kind) else None


def _explain(loose: Any, error: Exception) -> CodecError:
    request_id: object = 0
    tag: object = None
    if isinstance(loose, dict):
        request_id = loose.get("id", 0)
    elif isinstance(loose, list):
        tag = loose[0] if loose else None
        request_id = loose[1] if len(loose) > 1 else 0
    if not isinstance(request_id, int) or not 0 <= request_id <= N_MAX:
        request_id = 0
    unknown = isinstance(error, _UnknownTagError) or (isinstance(tag, int) and tag not in _COMMAND_TAGS)
    code = ErrorCode.UNKNOWN_COMMAND if unknown else ErrorCode.MALFORMED
    return CodecError(code, str(error), request_id)


def _from_json(loose: Any) -> ServerMessage:
    message: ServerMessage = msgspec.convert(_SERVER.load(loose), ServerMessage)
    return message


def _newer(loose: Any, load: Callable[[Any], ServerMessage], error: Exception) -> ServerMessage | None:
    """A message of a newer server: None for an unknown tag; unknown bodies are replaced by `erased`."""
    if isinstance(loose, list) and loose and isinstance(loose[0], int) and loose[0] not in _SERVER_TAGS:
        return None
    if isinstance(loose, dict) and isinstance(loose.get("tag"), str) and loose["tag"] not in _SERVER_NAMES:
        return None
    try:
        return load(_with_known_bodies(loose))
    except (*_BAD_INPUT, LookupError, TypeError):
        raise CodecError(ErrorCode.MALFORMED, str(error)) from None


def _with_known_bodies(loose: Any) -> Any:
    """The loose message with unknown bodies replaced; raises LookupError or TypeError if it carries no body."""
    if isinstance(loose, dict):
        if loose["tag"] == "history_page":
            lists = {name: [_with_known_bodies(event) for event in loose.get(name, ())] for name in ("events", "later")}
            return loose | lists
        return loose | {"body": _known_body(loose["body"], _BODY.load, {"tag": "erased"})}
    if loose[0] == HistoryPageRaw.__struct_config__.tag:
        return [*loose[:3], *([_with_known_bodies(event) for event in events] for events in loose[3:5]), *loose[5:]]
    return [*loose[:8], _known_body(loose[8], lambda body: body, [Erased.__struct_config__.tag])]


def _known_body(body: Any, load: Callable[[Any], Any], erased: Any) -> Any:
    try:
        msgspec.convert(load(body), AnyBody)
    except _BAD_INPUT:
        return erased
    return body
