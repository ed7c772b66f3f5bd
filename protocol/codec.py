"""Two codecs for one set of types.

`tchat.v1.msgpack` writes each struct as an array, tag first: `[10, 1, dialog, n, payload, ...]`.
`tchat.v1.json` writes the same struct as an object with the names of its fields, the tag by name
(`{"tag": "send", "id": 1, ...}`), ids as UUID text, other bytes in base64, enums by name (`json_forms.py`).

A command is decoded straight into its type: types and limits are checked by msgspec, and a value that is not expected
is never built. A refusal reads the tag and the id of what it refuses, and nothing else. So bytes that are made to be
slow (numbers that collide in a hash table, deep nesting) cost what they cost to skip.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any, Protocol, get_args, get_origin, get_type_hints

import msgspec

from protocol.bodies import AnyBody, Erased, TimelineEvent, TimelineEventRaw
from protocol.command_rules import Command
from protocol.commands import COMMANDS, AnyCommand
from protocol.errors import ErrorCode
from protocol.events import AnyEvent
from protocol.ids import Id
from protocol.json_forms import form_of, tag_name
from protocol.limits import N_MAX
from protocol.replies import AnyReply

ServerMessage = AnyReply | AnyEvent | TimelineEvent

_BAD_INPUT = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
_DETAIL_CHARS_MAX = 200


class HistoryPageRaw(msgspec.Struct, array_like=True, frozen=True, tag_field="tag", tag=55):
    """`HistoryPage` with its events as `Codec.encode` made them: what the server sends."""

    id: int
    dialog: Id
    events: list[msgspec.Raw]
    later: list[msgspec.Raw]
    more: bool


class MissedChangesRaw(msgspec.Struct, array_like=True, frozen=True, tag_field="tag", tag=78):
    """`MissedChanges` with its events as stored: what the server sends."""

    dialog: Id
    before_seq: int
    events: list[TimelineEventRaw]
    complete: bool


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
            raise _refuse_array(data, error) from None
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
        if isinstance(message, (TimelineEventRaw, MissedChangesRaw)):
            message = msgspec.msgpack.decode(msgspec.msgpack.encode(message), type=ServerMessage)
        return msgspec.json.encode(form_of(type(message)).dump(message))

    def decode_command(self, data: bytes) -> AnyCommand:
        try:
            command: AnyCommand = _COMMANDS.load(_json_commands.decode(data))
        except _BAD_INPUT as error:
            raise _refuse_object(data, error) from None
        return command

    def decode_server(self, data: bytes) -> ServerMessage | None:
        try:
            message: ServerMessage = _SERVER.load(_json_server.decode(data))
        except _BAD_INPUT as error:
            loose = _loose(msgspec.json.decode, data, dict)
            return _newer(loose, lambda known: _SERVER.load(msgspec.convert(known, _SERVER.type)), error)
        return message


class _ObjectTag(msgspec.Struct):
    tag: str


class _ObjectId(msgspec.Struct):
    id: int


class _ArrayTag(msgspec.Struct, array_like=True):
    tag: int


class _ArrayId(msgspec.Struct, array_like=True):
    tag: msgspec.Raw
    id: int


_COMMANDS, _SERVER, _BODY = form_of(AnyCommand), form_of(ServerMessage), form_of(AnyBody)
_json_commands, _json_server = msgspec.json.Decoder(_COMMANDS.type), msgspec.json.Decoder(_SERVER.type)
_object_tag, _object_id = msgspec.json.Decoder(_ObjectTag), msgspec.json.Decoder(_ObjectId)
_array_tag, _array_id = msgspec.msgpack.Decoder(_ArrayTag), msgspec.msgpack.Decoder(_ArrayId)
_COMMAND_OF: dict[object, type[Command]] = {command.__struct_config__.tag: command for command in COMMANDS}
_COMMAND_NAMES = {tag_name(command) for command in COMMANDS}
_SERVER_TAGS = {arm.__struct_config__.tag for arm in get_args(ServerMessage)}
_SERVER_NAMES = {tag_name(arm) for arm in get_args(ServerMessage)}

_EVENT_LISTS: dict[object, tuple[str, ...]] = {}
"""By tag, in numbers and in names: the fields that are lists of events. In the array they begin at element 3."""
for _raw, _names in ((HistoryPageRaw, ("events", "later")), (MissedChangesRaw, ("events",))):
    _EVENT_LISTS[_raw.__struct_config__.tag] = _EVENT_LISTS[tag_name(_raw)] = _names

MSGPACK = MsgpackCodec()
JSON = JsonCodec()
CODECS: dict[str, Codec] = {codec.subprotocol: codec for codec in (MSGPACK, JSON)}


def _loose(decode: Callable[[bytes], Any], data: bytes, kind: type = object) -> Any:
    """The value in the bytes without a check of types, None if it is not of that kind."""
    try:
        value = decode(data)
    except _BAD_INPUT:
        return None
    return value if isinstance(value, kind) else None


def _read(decoder: Any, data: bytes, field: str) -> Any:
    """One field of a message that is refused; None if it cannot be read."""
    try:
        return getattr(decoder.decode(data), field)
    except _BAD_INPUT:
        return None


def _refuse_array(data: bytes, error: Exception) -> CodecError:
    tag = _read(_array_tag, data, "tag")
    command = _COMMAND_OF.get(tag)
    detail = str(error)
    if command is not None:
        detail = re.sub(r"`\$((?:\[[^\]]*\])+)`", lambda path: f"`{_name_path(command, path[1])}`", detail)
    return _refuse(tag is not None and command is None, _read(_array_id, data, "id"), detail)


def _refuse_object(data: bytes, error: Exception) -> CodecError:
    tag = _read(_object_tag, data, "tag")
    return _refuse(tag is not None and tag not in _COMMAND_NAMES, _read(_object_id, data, "id"), str(error))


def _refuse(unknown: bool, request_id: int | None, detail: str) -> CodecError:
    code = ErrorCode.UNKNOWN_COMMAND if unknown else ErrorCode.MALFORMED
    known_id = request_id is not None and 0 <= request_id <= N_MAX
    return CodecError(code, detail[:_DETAIL_CHARS_MAX], request_id if known_id and request_id else 0)


def _name_path(command: type[Command], path: str) -> str:
    """A path of numbers in an array, `[5][0]`, by the names of fields: `$.members[0]`."""
    kind: Any = command
    named = "$"
    for step in re.findall(r"\[([^\]]*)\]", path):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and step.isdigit():
            name, kind = _elements(kind)[int(step)]
            named += f".{name}"
        else:
            named += f"[{step}]"
            kind = _plain(next(iter(get_args(kind)), None))
    return named


@functools.cache
def _elements(struct: type[msgspec.Struct]) -> list[tuple[str, Any]]:
    """The names and the types of what the array of a struct holds."""
    tag = [] if struct.__struct_config__.tag is None else [("tag", int)]
    hints = get_type_hints(struct)
    return [*tag, *((name, _plain(hints[name])) for name in struct.__struct_fields__)]


def _plain(hint: Any) -> Any:
    """The one type of an annotation that may also be None."""
    arms = [arm for arm in get_args(hint) if arm is not type(None)]
    return arms[0] if get_origin(hint) is not list and len(arms) == 1 else hint


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
        names = _EVENT_LISTS.get(loose["tag"])
        if names is not None:
            return loose | {name: [_with_known_bodies(event) for event in loose.get(name, ())] for name in names}
        return loose | {"body": _known_body(loose["body"], _BODY.type, {"tag": "erased"})}
    names = _EVENT_LISTS.get(loose[0])
    if names is not None:
        end = 3 + len(names)
        return [*loose[:3], *([_with_known_bodies(event) for event in events] for events in loose[3:end]), *loose[end:]]
    return [*loose[:8], _known_body(loose[8], AnyBody, [Erased.__struct_config__.tag])]


def _known_body(body: Any, kind: Any, erased: Any) -> Any:
    try:
        msgspec.convert(body, kind)
    except _BAD_INPUT:
        return erased
    return body
