"""Types of the API's fields, with their limits; the OpenAPI document shows them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from protocol import ids
from protocol.errors import ErrorCode
from protocol.limits import (
    CONTENT_TYPE_CHARS_MAX,
    N_MAX,
    NAME_CHARS_MAX,
    PAYLOAD_BYTES_MAX,
    REF_CHARS_MAX,
    URL_CHARS_MAX,
)
from server.identity.refusal import IdentityError

_ONE_LINE = r"^[^\x00-\x1f\x7f]*$"

PhoneText = Annotated[str, Meta(max_length=32, examples=["+6591234567"])]
CodeText = Annotated[str, Meta(max_length=16, examples=["123456"])]
RefreshText = Annotated[str, Meta(max_length=200)]
DisplayName = Annotated[str, Meta(max_length=4 * NAME_CHARS_MAX, description="1 to 100 characters, one line")]
AvatarUrl = Annotated[str, Meta(max_length=URL_CHARS_MAX, description="https, or empty")]
LocaleText = Annotated[str, Meta(max_length=16, examples=["th"])]
TimezoneText = Annotated[str, Meta(max_length=64, examples=["Asia/Bangkok"])]
Platform = Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,32}$", examples=["mobile_android"])]
Version = Annotated[str, Meta(max_length=50, pattern=_ONE_LINE)]
OneLine = Annotated[str, Meta(max_length=NAME_CHARS_MAX, pattern=_ONE_LINE)]
ServiceName = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX, pattern=_ONE_LINE)]
ContentType = Annotated[str, Meta(max_length=CONTENT_TYPE_CHARS_MAX)]
RefText = Annotated[str, Meta(min_length=1, max_length=REF_CHARS_MAX)]
Payload = Annotated[bytes, Meta(max_length=PAYLOAD_BYTES_MAX, description="base64")]
N = Annotated[int, Meta(ge=1, le=N_MAX, description="grows per API key; a repetition is answered with the same seq")]
Millis = Annotated[int, Meta(ge=0, le=N_MAX, description="milliseconds since 1970-01-01 UTC")]


class Request(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every request body is: an object without fields that nobody knows."""


def text_id(value: bytes) -> UUID:
    """An id as JSON shows it."""
    return UUID(bytes=value)


def named_device(value: UUID | None) -> bytes | None:
    """The device that a client says it is; raises IdentityError for the one that is nobody's."""
    if value is None:
        return None
    if value.bytes == ids.NIL:
        raise IdentityError(ErrorCode.INVALID_ARGUMENT, "device_id: the nil UUID is no device")
    return value.bytes
