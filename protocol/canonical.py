"""Forms of which there is exactly one: what is signed, hashed or sealed has the same bytes on every device.

Keys and plaintexts are Matrix' canonical JSON (Matrix specification, appendix "Canonical JSON"), so that Matrix'
libraries read them: sorted keys, no spaces, UTF-8, no fractions, integers within 2**53. What we sign or hash ourselves
is a list of byte strings, each after its length (`frame`), the first of which says what it is for.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import msgspec

from protocol.ids import ID_BYTES

INTEGER_MAX = 2**53 - 1
NESTING_MAX = 16
_SERVER_NAME = "tchat"

_encoder = msgspec.json.Encoder(order="sorted")
_decoder = msgspec.json.Decoder()


class CanonicalError(ValueError):
    """These bytes are not the canonical form of anything; the text says why."""


def encode_canonical(value: object) -> bytes:
    """The canonical JSON of a value made of dicts with text keys, lists, texts, integers, booleans and None."""
    _check(value, NESTING_MAX)
    return _encoder.encode(value)


def decode_canonical(data: bytes) -> dict[str, object]:
    """The object that these bytes are the canonical form of; `CanonicalError` for any other bytes."""
    try:
        value = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CanonicalError("not JSON") from error
    if not isinstance(value, dict):
        raise CanonicalError("not a JSON object")
    if encode_canonical(value) != data:
        raise CanonicalError("not in its canonical form")
    return value


def signed_part(value: Mapping[str, object]) -> bytes:
    """What Matrix signs of an object: all but `signatures` and `unsigned`."""
    return encode_canonical({key: part for key, part in value.items() if key not in ("signatures", "unsigned")})


def frame(domain: bytes, *parts: bytes) -> bytes:
    """What a signature or hash of ours covers: each part, `domain` first, after its length (4 bytes, big-endian)."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in (domain, *parts))


def to_base64(data: bytes) -> str:
    """Matrix' base64: the standard alphabet, without padding."""
    return base64.b64encode(data).rstrip(b"=").decode()


def from_base64(text: object, length: int | None = None) -> bytes:
    """The bytes of a base64 text in its one form, `length` of them; `CanonicalError` for anything else."""
    if not isinstance(text, str) or not text.isascii():
        raise CanonicalError("not base64")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise CanonicalError("not base64") from error
    if to_base64(data) != text:
        raise CanonicalError("not base64 in its one form")
    if length is not None and len(data) != length:
        raise CanonicalError(f"not {length} bytes")
    return data


def user_id_of(principal: bytes) -> str:
    """A principal as Matrix writes one."""
    return f"@{principal.hex()}:{_SERVER_NAME}"


def room_id_of(dialog: bytes) -> str:
    """A dialog as Matrix writes one."""
    return f"!{dialog.hex()}:{_SERVER_NAME}"


def device_id_of(device: bytes) -> str:
    """A device as Matrix writes one."""
    return device.hex()


def dialog_of(room_id: object) -> bytes:
    """The dialog of a Matrix room id; `CanonicalError` if it is not one of ours."""
    return _id_in(room_id, "!", f":{_SERVER_NAME}")


def device_of(device_id: object) -> bytes:
    """The device of a Matrix device id; `CanonicalError` if it is not one of ours."""
    return _id_in(device_id, "", "")


def _id_in(text: object, before: str, after: str) -> bytes:
    if isinstance(text, str) and text.startswith(before) and text.endswith(after):
        digits = text[len(before) : len(text) - len(after)]
        if len(digits) == 2 * ID_BYTES and digits.isalnum() and digits.isascii() and digits == digits.lower():
            try:
                return bytes.fromhex(digits)
            except ValueError:
                pass
    raise CanonicalError("not an id of ours")


def _check(value: object, levels: int) -> None:
    """Refuse what has no canonical form: fractions, integers that JSON readers round, and deep nesting."""
    if levels == 0:
        raise CanonicalError("nested too deeply")
    match value:
        case bool() | None | str():
            return
        case int():
            if abs(value) > INTEGER_MAX:
                raise CanonicalError("an integer beyond 2**53")
        case dict():
            for key, part in value.items():
                if not isinstance(key, str):
                    raise CanonicalError("a key that is not a text")
                _check(part, levels - 1)
        case list():
            for part in value:
                _check(part, levels - 1)
        case _:
            raise CanonicalError("a fraction, or a type that JSON has not")
