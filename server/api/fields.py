"""Types of the API's fields, with their limits; the OpenAPI document shows them. Those of the protocol are derived."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta

from protocol import bodies, ids
from protocol.errors import ErrorCode
from protocol.limits import NAME_CHARS_MAX
from server.refusals import RequestRefusedError
from server.texts import ONE_LINE

PhoneText = Annotated[str, Meta(max_length=32, examples=["+6591234567"])]
CodeText = Annotated[str, Meta(max_length=16, examples=["123456"])]
RefreshText = Annotated[str, Meta(max_length=200)]
DisplayName = Annotated[
    str, Meta(max_length=4 * NAME_CHARS_MAX, description=f"1 to {NAME_CHARS_MAX} characters, one line")
]
AvatarUrl = Annotated[bodies.Url, Meta(description="https, or empty")]
LocaleText = Annotated[str, Meta(max_length=16, examples=["th"])]
TimezoneText = Annotated[str, Meta(max_length=64, examples=["Asia/Bangkok"])]
Platform = Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,32}$", examples=["mobile_android"])]
Version = Annotated[str, Meta(max_length=50, pattern=ONE_LINE)]
OneLine = Annotated[str, Meta(max_length=NAME_CHARS_MAX, pattern=ONE_LINE)]
ServiceName = Annotated[str, Meta(min_length=1, max_length=NAME_CHARS_MAX, pattern=ONE_LINE)]
ContentType = bodies.ContentType
RefText = bodies.RefText
Payload = Annotated[bodies.Payload, Meta(description="base64")]
N = Annotated[bodies.N, Meta(description="grows per API key; a retry gets the same seq")]
Millis = Annotated[bodies.Millis, Meta(description="milliseconds since 1970-01-01 UTC")]


class Request(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The base of request bodies: an unknown field is an error."""


def text_id(value: bytes) -> UUID:
    """An id as JSON writes it."""
    return UUID(bytes=value)


def named_device(value: UUID | None) -> bytes | None:
    """The device id that the client names, if any; raises RequestRefusedError for the nil UUID."""
    if value is None:
        return None
    if value.bytes == ids.NIL:
        raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "device_id: must not be the nil UUID")
    return value.bytes
