"""Canonical JSON, base64 and Matrix' ids: one form, and every other refused."""

from __future__ import annotations

import pytest

from protocol.canonical import (
    INTEGER_MAX,
    CanonicalError,
    decode_canonical,
    device_id_of,
    device_of,
    dialog_of,
    encode_canonical,
    frame,
    from_base64,
    room_id_of,
    signed_part,
    to_base64,
)
from protocol.ids import new_id


@pytest.mark.parametrize(
    ("value", "data"),
    [  # examples of the Matrix specification, appendix "Canonical JSON"
        ({}, b"{}"),
        ({"one": 1, "two": "Two"}, b'{"one":1,"two":"Two"}'),
        ({"b": "2", "a": "1"}, b'{"a":"1","b":"2"}'),
        ({"a": "日本語"}, '{"a":"日本語"}'.encode()),
        ({"本": 2, "日": 1}, '{"日":1,"本":2}'.encode()),
        ({"a": "\u65e5"}, '{"a":"日"}'.encode()),
        ({"a": None}, b'{"a":null}'),
        ({"nested": {"z": [True, -1], "a": {}}}, b'{"nested":{"a":{},"z":[true,-1]}}'),
    ],
)
def test_a_value_has_one_form(value: dict[str, object], data: bytes) -> None:
    assert encode_canonical(value) == data
    assert decode_canonical(data) == value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"1",
        b"{",
        b'{"a":1} ',
        b'{ "a":1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":1e2}',
        b'{"a":-0}',
        b'{"a":9007199254740992}',
        b'{"a":"\\u0041"}',
        b'{"a":"\xff"}',
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a":' + b"[" * 16 + b"]" * 16 + b"}",
    ],
    ids=repr,
)
def test_any_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CanonicalError):
        decode_canonical(data)


@pytest.mark.parametrize("value", [{"a": 1.5}, {"a": INTEGER_MAX + 1}, {1: "a"}, {"a": b"bytes"}])
def test_what_has_no_form_is_not_encoded(value: dict[str, object]) -> None:
    with pytest.raises(CanonicalError):
        encode_canonical(value)


def test_control_characters_are_written_as_matrix_writes_them() -> None:
    assert encode_canonical({"a": '\n\t\x01"\\/\x7f'}) == b'{"a":"\\n\\t\\u0001\\"\\\\/\x7f"}'


def test_signatures_are_not_signed() -> None:
    assert signed_part({"b": 1, "signatures": {"x": {}}, "a": 2, "unsigned": 1}) == b'{"a":2,"b":1}'


def test_a_frame_says_where_each_part_ends() -> None:
    assert frame(b"d", b"ab", b"") == b"\0\0\0\1d\0\0\0\2ab\0\0\0\0"
    assert frame(b"d", b"ab", b"c") != frame(b"d", b"a", b"bc")


@pytest.mark.parametrize("data", [b"", b"a", b"ab", b"abc", bytes(32)])
def test_base64_is_read_as_it_is_written(data: bytes) -> None:
    assert from_base64(to_base64(data)) == data
    assert "=" not in to_base64(data)


@pytest.mark.parametrize("text", [None, 1, "YQ==", "YR", "Y", "Y Q", "é", "YWI\n", "_-_-"])
def test_other_base64_is_refused(text: object) -> None:
    with pytest.raises(CanonicalError):
        from_base64(text)


def test_a_key_of_another_length_is_refused() -> None:
    assert from_base64(to_base64(bytes(32)), 32) == bytes(32)
    with pytest.raises(CanonicalError):
        from_base64(to_base64(bytes(31)), 32)


def test_ids_are_read_as_they_are_written() -> None:
    one = new_id()
    assert dialog_of(room_id_of(one)) == device_of(device_id_of(one)) == one


@pytest.mark.parametrize(
    "text", [None, "", "!:tchat", "!" + "a" * 32, "!" + "A" * 32 + ":tchat", "!" + "g" * 32 + ":tchat"]
)
def test_ids_of_others_are_refused(text: object) -> None:
    with pytest.raises(CanonicalError):
        dialog_of(text)
