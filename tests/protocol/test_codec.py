"""Both codecs: every type there and back, what a newer server may say, and what is no message at all."""

from __future__ import annotations

import contextlib
import json
import tracemalloc
from typing import Any, get_args

import msgspec
import pytest

from protocol import bodies as b
from protocol import ids
from protocol.bodies import AnyBody, TimelineEvent, TimelineEventRaw
from protocol.codec import CODECS, JSON, MSGPACK, Codec, CodecError, HistoryPageRaw, ServerMessage
from protocol.command_rules import Command
from protocol.commands import AnyCommand, Heartbeat, History, PresenceSubscribe, Receipt, Send
from protocol.errors import ErrorCode
from protocol.events import CaughtUp, DialogState, HeartbeatReply, KeySlices
from protocol.json_forms import tag_name
from protocol.limits import N_MAX, PAYLOAD_BYTES_MAX
from protocol.reference.examples import BODIES, COMMANDS, EVENTS, REPLIES, TEAM, timeline_event
from protocol.replies import HistoryPage
from tests.support.colliding import packed_table

EITHER = pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.subprotocol)


def named(message: msgspec.Struct) -> str:
    return tag_name(type(message))


def raw(event: TimelineEvent) -> TimelineEventRaw:
    return msgspec.msgpack.decode(MSGPACK.encode(event), type=TimelineEventRaw)


def loose(codec: Codec, message: msgspec.Struct) -> Any:
    data = codec.encode(message)
    return json.loads(data) if codec.text else msgspec.msgpack.decode(data)


def tight(codec: Codec, value: object) -> bytes:
    return json.dumps(value).encode() if codec.text else msgspec.msgpack.encode(value)


def refused(codec: Codec, data: bytes) -> CodecError:
    with pytest.raises(CodecError) as raised:
        codec.decode_command(data)
    return raised.value


def test_there_is_an_example_of_every_message() -> None:
    assert {type(one) for one in COMMANDS} == set(get_args(AnyCommand))
    assert {type(one) for one in (*REPLIES, *EVENTS)} == set(get_args(ServerMessage))
    assert {type(one) for one in BODIES} == set(get_args(AnyBody))


def test_no_tag_is_used_twice() -> None:
    messages = [*get_args(AnyCommand), *get_args(ServerMessage)]
    tags = [one.__struct_config__.tag for one in messages]
    assert len(set(tags)) == len(tags) == len({tag_name(one) for one in messages})
    bodies = [one.__struct_config__.tag for one in get_args(AnyBody)]
    assert len(set(bodies)) == len(bodies)


@EITHER
@pytest.mark.parametrize("command", COMMANDS, ids=named)
def test_a_command_comes_back_as_it_was(codec: Codec, command: Command) -> None:
    assert codec.decode_command(codec.encode(command)) == command


@EITHER
@pytest.mark.parametrize("message", [*REPLIES, *EVENTS], ids=named)
def test_a_reply_or_event_comes_back_as_it_was(codec: Codec, message: msgspec.Struct) -> None:
    assert codec.decode_server(codec.encode(message)) == message


@EITHER
@pytest.mark.parametrize("body", BODIES, ids=named)
def test_a_body_comes_back_as_it_was(codec: Codec, body: AnyBody) -> None:
    assert codec.decode_server(codec.encode(timeline_event(body))) == timeline_event(body)


@EITHER
@pytest.mark.parametrize("body", BODIES, ids=named)
def test_a_stored_body_is_sent_as_the_same_bytes(codec: Codec, body: AnyBody) -> None:
    event = timeline_event(body)
    assert codec.encode(raw(event)) == codec.encode(event)
    stored = [msgspec.Raw(codec.encode(raw(event)))]
    page = HistoryPageRaw(1, TEAM, stored, stored, False)
    assert codec.encode(page) == codec.encode(HistoryPage(1, TEAM, [event], [event], False))


@EITHER
def test_the_bounds_of_numbers_hold_exactly(codec: Codec) -> None:
    send = Send(1, TEAM, N_MAX, b"")
    assert codec.decode_command(codec.encode(send)) == send
    for n in (0, -1, N_MAX + 1, 2**63, 2**64 - 1):
        assert refused(codec, codec.encode(Send(1, TEAM, n, b""))).code == ErrorCode.MALFORMED


@EITHER
def test_the_bound_of_a_payload_holds_exactly(codec: Codec) -> None:
    full = Send(1, TEAM, 1, bytes(PAYLOAD_BYTES_MAX))
    assert codec.decode_command(codec.encode(full)) == full
    assert refused(codec, codec.encode(Send(1, TEAM, 1, bytes(PAYLOAD_BYTES_MAX + 1)))).code == ErrorCode.MALFORMED


@EITHER
@pytest.mark.parametrize("command", COMMANDS, ids=named)
def test_defaults_may_be_left_out(codec: Codec, command: Command) -> None:
    value = loose(codec, command)
    fields = msgspec.structs.fields(type(command))
    defaults = {
        field.name: field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        for field in fields
        if not field.required
    }
    if codec.text:
        short = {key: one for key, one in value.items() if key not in defaults}
    else:
        short = value[: len(value) - len(defaults)]
    decoded = codec.decode_command(tight(codec, short))
    assert decoded == msgspec.structs.replace(command, **defaults)


@EITHER
@pytest.mark.parametrize("command", COMMANDS, ids=named)
def test_unknown_fields_are_ignored(codec: Codec, command: Command) -> None:
    value = loose(codec, command)
    longer = value | {"field_of_a_newer_client": [1]} if codec.text else [*value, "newer"]
    assert codec.decode_command(tight(codec, longer)) == command


@EITHER
@pytest.mark.parametrize("command", COMMANDS, ids=named)
def test_every_field_without_a_default_is_required(codec: Codec, command: Command) -> None:
    value = loose(codec, command)
    for index, field in enumerate(msgspec.structs.fields(type(command))):
        if field.required:
            short = {k: v for k, v in value.items() if k != field.name} if codec.text else value[: index + 1]
            assert refused(codec, tight(codec, short)).code == ErrorCode.MALFORMED


@EITHER
def test_an_unknown_command_is_said_to_be_unknown_with_its_id(codec: Codec) -> None:
    error = refused(codec, tight(codec, {"tag": "teleport", "id": 7} if codec.text else [99, 7]))
    assert (error.code, error.request_id) == (ErrorCode.UNKNOWN_COMMAND, 7)


@EITHER
def test_a_malformed_command_is_refused_with_its_id(codec: Codec) -> None:
    value = loose(codec, COMMANDS[4])
    broken = value | {"n": "seven"} if codec.text else [*value[:3], "seven", *value[4:]]
    error = refused(codec, tight(codec, broken))
    assert (error.code, error.request_id) == (ErrorCode.MALFORMED, 4)


@EITHER
@pytest.mark.parametrize(
    ("index", "name", "value", "path"),
    [
        (3, "n", "seven", "`$.n`"),
        (4, "payload", 5, "`$.payload`"),
        (5, "header", {"reply_to": 0}, "`$.header.reply_to`"),
        (5, "header", {"ref": {"type": "", "id": "1"}}, "`$.header.ref.type`"),
    ],
)
def test_the_detail_of_a_refusal_names_the_field(codec: Codec, index: int, name: str, value: Any, path: str) -> None:
    send = loose(codec, Send(1, TEAM, 1, b"x"))
    if codec.text:
        broken = send | {name: value}
    else:
        arrays = {"`$.header.reply_to`": ["", 0], "`$.header.ref.type`": ["", None, None, ["", "1"]]}
        broken = [*send[:index], arrays.get(path, "seven"), *send[index + 1 :]]
    assert path in refused(codec, tight(codec, broken)).detail


@EITHER
def test_the_detail_of_a_refusal_names_the_item_of_a_list(codec: Codec) -> None:
    strange: object = "no id" if codec.text else b"no id"
    subscribe = loose(codec, PresenceSubscribe(1, [TEAM]))
    broken = subscribe | {"principals": [strange]} if codec.text else [*subscribe[:2], [strange]]
    assert "`$.principals[" in refused(codec, tight(codec, broken)).detail


def test_the_detail_of_a_refusal_is_short() -> None:
    long = tight(
        JSON, {"tag": "send", "id": 1, "dialog": ids.to_text(TEAM), "n": 1, "payload": "", "kind": "x" * 60_000}
    )
    assert len(refused(JSON, long).detail) <= 200


NAMES = {str(number): 0 for number in range(5000)}


@pytest.mark.parametrize(
    "data",
    [
        b"\x95\x0a\x07\xc4\x10" + TEAM + b"\x00" + packed_table(4600),
        b"\x94\x03\xa4more\x07" + packed_table(4600),
        b"\x93\x63\x07" + packed_table(4600),
        tight(JSON, {"tag": "send", "id": 7, "x": NAMES}),
        tight(JSON, {"tag": "teleport", "id": 7, "x": NAMES}),
    ],
    ids=["in a field", "behind the fields", "in an unknown command", "json", "json, unknown"],
)
def test_a_refusal_builds_nothing_of_what_it_refuses(data: bytes) -> None:
    """A table of keys with one hash takes quadratic time to build: 0.2 s for a message of 64 KB."""
    codec = JSON if data.startswith(b"{") else MSGPACK
    tracemalloc.start()
    try:
        assert refused(codec, data).request_id in (0, 7)
        assert tracemalloc.get_traced_memory()[1] < 20_000
    finally:
        tracemalloc.stop()


@EITHER
def test_an_unknown_reply_or_event_is_skipped(codec: Codec) -> None:
    for value in ({"tag": "newer_reply", "x": 1}, {"tag": "newer_reply"}) if codec.text else ([199, 1], [199]):
        assert codec.decode_server(tight(codec, value)) is None


@EITHER
def test_an_event_with_an_unknown_body_counts_as_erased(codec: Codec) -> None:
    strange = {"tag": "telepathed", "to": 1} if codec.text else [99, 1]
    event = loose(codec, timeline_event(b.Erased()))
    event = event | {"body": strange} if codec.text else [*event[:8], strange]
    assert codec.decode_server(tight(codec, event)) == timeline_event(b.Erased())
    page = HistoryPage(1, TEAM, [timeline_event(BODIES[0]), timeline_event(b.Erased())], [timeline_event(b.Erased())])
    value = loose(codec, page)
    if codec.text:
        value["events"][1] = value["later"][0] = event
    else:
        value[3][1] = value[4][0] = event
    assert codec.decode_server(tight(codec, value)) == page


@EITHER
def test_an_unknown_kind_makes_an_unknown_body(codec: Codec) -> None:
    event = loose(codec, timeline_event(BODIES[0]))
    if codec.text:
        event["body"]["kind"] = "hologram"
    else:
        event[8][1] = 99
    assert codec.decode_server(tight(codec, event)) == timeline_event(b.Erased())


@EITHER
@pytest.mark.parametrize("message", [*REPLIES, *EVENTS], ids=named)
def test_a_broken_reply_or_event_is_no_message(codec: Codec, message: msgspec.Struct) -> None:
    value = loose(codec, message)
    broken = {"tag": value["tag"], "id": []} if codec.text else [value[0], []]
    if isinstance(message, HeartbeatReply | KeySlices):  # their first field is no number
        broken = {"tag": value["tag"], message.__struct_fields__[0]: 1} if codec.text else [value[0], 1]
    with pytest.raises(CodecError):
        codec.decode_server(tight(codec, broken))


@EITHER
@pytest.mark.parametrize("message", [*COMMANDS, *REPLIES, *EVENTS], ids=named)
def test_every_truncation_is_refused_or_a_shorter_message(codec: Codec, message: msgspec.Struct) -> None:
    data = codec.encode(message)
    for length in range(len(data)):
        for decode in (codec.decode_command, codec.decode_server):
            with pytest.raises(CodecError):
                decode(data[:length])


NONSENSE = {
    MSGPACK.subprotocol: {
        "nothing": b"",
        "a number": b"\x07",
        "an empty array": b"\x90",
        "an array of nothing known": b"\x91\xc0",
        "an object": b"\x81\xa3tag\xa9heartbeat",
        "a reserved byte": b"\xc1",
        "an array of four thousand million": b"\xdd\xff\xff\xff\xff\x03",
        "text of four thousand million": b"\x92\xdb\xff\xff\xff\xff",
        "bytes of four thousand million": b"\x95\x0a\x01\xc6\xff\xff\xff\xff",
        "deep nesting": b"\x91" * 100_000,
        "deep nesting in a field": b"\x92\x03" + b"\x91" * 100_000 + b"\x01",
        "a tag that is too large": b"\x92\xcf\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        "a negative tag": b"\x92\xff\x01",
        "a tag of text": b"\x92\xa4send\x01",
        "two messages": b"\x92\x03\x00\x92\x03\x00",
        "text that is not utf-8": b"\x93\x01\x01\xa2\xc3\x28",
        "an id that is too short": b"\x95\x0c\x01\xc4\x0f" + bytes(15) + b"\x01\x01",
        "an extension type": b"\x92\x03\xd4\x01\x02",
    },
    JSON.subprotocol: {
        "nothing": b"",
        "a number": b"7",
        "an array": b"[3, 0]",
        "an empty object": b"{}",
        "half an object": b'{"tag": "heartbeat"',
        "two messages": b'{"tag":"heartbeat","id":0}{"tag":"heartbeat","id":0}',
        "a tag that is a number": b'{"tag": 3, "id": 0}',
        "not utf-8": b'{"tag":"authenticate","id":1,"token":"\xc3\x28"}',
        "half a surrogate": b'{"tag":"authenticate","id":1,"token":"\\ud800"}',
        "deep nesting": b"[" * 100_000,
        "deep nesting in a field": b'{"tag":"heartbeat","id":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "a huge integer": b'{"tag":"heartbeat","id":' + b"9" * 10_000 + b"}",
        "a huge float": b'{"tag":"heartbeat","id":1e999}',
        "not a number": b'{"tag":"heartbeat","id":NaN}',
        "an id that is no uuid": b'{"tag":"leave","id":1,"dialog":"team","n":1}',
        "an id without dashes": b'{"tag":"leave","id":1,"dialog":"5be1d0a244c38f6b9a073c4d5e6f7a8b","n":1}',
        "an id in braces": b'{"tag":"leave","id":1,"dialog":"{5be1d0a2-44c3-8f6b-9a07-3c4d5e6f7a8b}","n":1}',
        "an id that is a number": b'{"tag":"leave","id":1,"dialog":5,"n":1}',
        "a kind by number": b'{"tag":"send","id":1,"dialog":"5be1d0a2-44c3-8f6b-9a07-3c4d5e6f7a8b","n":1,'
        b'"payload":"","kind":1}',
        "a payload that is not base64": b'{"tag":"send","id":1,"dialog":"5be1d0a2-44c3-8f6b-9a07-3c4d5e6f7a8b","n":1,'
        b'"payload":"*"}',
        "a payload that is an object": b'{"tag":"send","id":1,"dialog":"5be1d0a2-44c3-8f6b-9a07-3c4d5e6f7a8b","n":1,'
        b'"payload":{}}',
        "a high-water mark that is null": b'{"tag":"receipt","id":0,"high_water":null}',
        "receipts that are an object": b'{"tag":"sync","id":0,"receipts":{}}',
    },
}


@pytest.mark.parametrize(
    ("subprotocol", "data"),
    [pytest.param(name, data, id=f"{name}-{what}") for name, cases in NONSENSE.items() for what, data in cases.items()],
)
def test_nonsense_is_refused_by_both_decoders(subprotocol: str, data: bytes) -> None:
    codec = CODECS[subprotocol]
    assert refused(codec, data).code in (ErrorCode.MALFORMED, ErrorCode.UNKNOWN_COMMAND)
    with contextlib.suppress(CodecError):  # what looks like a message of a newer server is skipped
        assert codec.decode_server(data) is None


def test_json_is_what_the_reference_says() -> None:
    assert json.loads(JSON.encode(Receipt(0, COMMANDS[10].high_water))) == {  # type: ignore[attr-defined]
        "tag": "receipt",
        "id": 0,
        "high_water": {"dialog": "5be1d0a2-44c3-8f6b-9a07-3c4d5e6f7a8b", "delivered": 42, "read": 42},
    }
    assert json.loads(JSON.encode(timeline_event(BODIES[0])))["body"]["payload"] == "aGVsbG8="
    state = json.loads(JSON.encode(EVENTS[1]))
    assert isinstance(EVENTS[1], DialogState)
    assert (state["type"], state["role"], state["members"][1]["role"]) == ("group", "admin", "member")


def test_msgpack_is_what_the_reference_says() -> None:
    assert MSGPACK.encode(Heartbeat(5)) == b"\x92\x03\x05"
    assert MSGPACK.encode(CaughtUp("p")) == b"\x92\x48\xa1p"
    assert msgspec.msgpack.decode(MSGPACK.encode(History(8, TEAM)))[:3] == [20, 8, TEAM]
