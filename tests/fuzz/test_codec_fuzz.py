"""Whatever arrives, a decoder returns a message or raises `CodecError`, and nothing else.

Hypothesis, because it shrinks what it finds to the smallest failing input and needs no instrumented build.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.codec import CODECS, JSON, MSGPACK, Codec, CodecError
from protocol.json_forms import tag_name
from protocol.reference.examples import COMMANDS, EVENTS, REPLIES

EXAMPLES = [*COMMANDS, *REPLIES, *EVENTS]
EITHER = pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.subprotocol)

integers = st.integers(min_value=-(2**63), max_value=2**64 - 1)
atoms = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20)
json_values = st.recursive(
    atoms,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=8), inner, max_size=6),
    max_leaves=20,
)
msgpack_values = st.recursive(
    atoms | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
tags = st.sampled_from([one.__struct_config__.tag for one in EXAMPLES]) | st.integers(0, 255)
names = st.sampled_from([tag_name(type(one)) for one in EXAMPLES])
field_names = sorted({field.name for one in EXAMPLES for field in msgspec.structs.fields(type(one))})


def decode_both(codec: Codec, data: bytes) -> None:
    """Only `CodecError` escapes; what decodes can be encoded, and decodes to the same again."""
    for decode in (codec.decode_command, codec.decode_server):
        try:
            message = decode(data)
        except CodecError:
            continue
        if message is not None:
            assert decode(codec.encode(message)) == message


@EITHER
@given(data=st.binary(max_size=300))
def test_any_bytes(codec: Codec, data: bytes) -> None:
    decode_both(codec, data)


@given(data=st.text(max_size=300))
def test_any_text(data: str) -> None:
    decode_both(JSON, data.encode("utf-8", "surrogatepass"))


@given(tag=tags, fields=st.lists(msgpack_values, max_size=22))
def test_any_array_that_begins_like_a_message(tag: object, fields: list[Any]) -> None:
    decode_both(MSGPACK, msgspec.msgpack.encode([tag, *fields]))


@given(tag=names | st.text(max_size=10), fields=st.dictionaries(st.sampled_from(field_names), json_values, max_size=12))
def test_any_object_that_begins_like_a_message(tag: str, fields: dict[str, Any]) -> None:
    decode_both(JSON, json.dumps({"tag": tag, **fields}).encode())


@EITHER
@settings(max_examples=300)
@given(data=st.data())
def test_a_message_with_bytes_changed_inserted_or_lost(codec: Codec, data: st.DataObject) -> None:
    message = bytearray(codec.encode(data.draw(st.sampled_from(EXAMPLES))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(0, len(message) - 1)))
        length = data.draw(st.integers(0, 4))
        message[at : at + length] = data.draw(st.binary(max_size=4))
    decode_both(codec, bytes(message))


@settings(max_examples=300)
@given(data=st.data())
def test_a_message_with_one_value_replaced(data: st.DataObject) -> None:
    value = msgspec.msgpack.decode(MSGPACK.encode(data.draw(st.sampled_from(EXAMPLES))))
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] = data.draw(msgpack_values)
    decode_both(MSGPACK, msgspec.msgpack.encode(value))


@settings(max_examples=300)
@given(data=st.data())
def test_an_object_with_one_value_replaced(data: st.DataObject) -> None:
    value = json.loads(JSON.encode(data.draw(st.sampled_from(EXAMPLES))))
    value[data.draw(st.sampled_from(sorted(value)))] = data.draw(json_values)
    decode_both(JSON, json.dumps(value).encode())
