"""The largest messages: computed from the types, compared with messages at every limit."""

import json
from typing import Any
from uuid import UUID

import msgspec
import pytest

from protocol import commands as c
from protocol.bodies import DialogCreated, Edited, Header, LogHead, MemberRole, Ref, Settings, TimelineEvent
from protocol.codec import JSON, MSGPACK
from protocol.command_rules import Command
from protocol.dialog_types import DialogType, Mode, Role
from protocol.kinds import Kind
from protocol.limits import (
    CONTENT_TYPE_CHARS_MAX,
    DESCRIPTION_CHARS_MAX,
    MEMBERS_PER_COMMAND_MAX,
    N_MAX,
    NAME_CHARS_MAX,
    PAYLOAD_BYTES_MAX,
    POSITION_CHARS_MAX,
    RECEIPTS_PER_SYNC_MAX,
    REF_CHARS_MAX,
    RETENTION_DAYS_MAX,
    URL_CHARS_MAX,
)
from server.api.service_accounts import EventRequest, RefRequest
from server.config.message_sizes import largest_command, largest_event, largest_json, largest_service_event

EMOJI = "\U0001f600"
ID = b"\xff" * 16
HEADER = Header(
    EMOJI * CONTENT_TYPE_CHARS_MAX,
    N_MAX,
    N_MAX,
    Ref(EMOJI * REF_CHARS_MAX, EMOJI * REF_CHARS_MAX),
    N_MAX,
    bytes(32),
    bytes(32),
    ID,
)
SETTINGS = Settings(False, False, RETENTION_DAYS_MAX, False)
LONGEST_KIND = max(Kind, key=lambda kind: len(kind.name))
LONGEST_TYPE = max(DialogType, key=lambda type_: len(type_.name))
LONGEST_MODE = max(Mode, key=lambda mode: len(mode.name))
LONGEST_ROLE = max(Role, key=lambda role: len(role.name))

SYNC = c.Sync(
    N_MAX, EMOJI * POSITION_CHARS_MAX, [c.HighWaterMark(ID, N_MAX, N_MAX) for _ in range(RECEIPTS_PER_SYNC_MAX)]
)
SEND = c.Send(N_MAX, ID, N_MAX, bytes(PAYLOAD_BYTES_MAX), HEADER, LONGEST_KIND)
CREATED = DialogCreated(
    LONGEST_TYPE,
    LONGEST_MODE,
    EMOJI * NAME_CHARS_MAX,
    EMOJI * DESCRIPTION_CHARS_MAX,
    EMOJI * URL_CHARS_MAX,
    SETTINGS,
    [MemberRole(ID, LONGEST_ROLE)] * (MEMBERS_PER_COMMAND_MAX + 1),
    bytes(64),
    [LogHead(N_MAX, N_MAX, bytes(32))] * (MEMBERS_PER_COMMAND_MAX + 1),
)
EDITED = Edited(N_MAX, bytes(PAYLOAD_BYTES_MAX), HEADER)


def escaped_json(message: msgspec.Struct) -> bytes:
    """The message as a client writes it that escapes all but ASCII."""
    return json.dumps(json.loads(JSON.encode(message)), separators=(",", ":")).encode()


def event(body: Any) -> TimelineEvent:
    return TimelineEvent(ID, N_MAX, ID, ID, N_MAX, N_MAX, N_MAX, body)


@pytest.mark.parametrize("command", [SYNC, SEND], ids=["sync", "send"])
def test_a_command_at_every_limit_has_the_computed_size(command: Command) -> None:
    assert len(escaped_json(command)) == largest_json(type(command))
    assert JSON.decode_command(escaped_json(command)) == command


def test_the_largest_command_is_a_sync_and_fits_in_either_codec() -> None:
    assert largest_command() == len(escaped_json(SYNC))
    for command in (SYNC, SEND):
        assert len(MSGPACK.encode(command)) < len(JSON.encode(command)) <= largest_command()


def test_a_payload_in_base64_grows_by_a_third() -> None:
    assert PAYLOAD_BYTES_MAX * 4 // 3 < largest_json(c.Send) < PAYLOAD_BYTES_MAX * 4 // 3 + 5_200


@pytest.mark.parametrize("body", [CREATED, EDITED], ids=["created", "edited"])
def test_the_largest_event_fits_in_either_codec(body: Any) -> None:
    assert len(MSGPACK.encode(event(body))) < len(escaped_json(event(body))) <= largest_event()


def test_the_largest_event_is_a_new_dialog() -> None:
    assert largest_event() == len(escaped_json(event(CREATED)))


def test_the_largest_event_of_a_service_fits_into_its_body() -> None:
    text = EMOJI * REF_CHARS_MAX
    request = EventRequest(
        n=N_MAX,
        kind=LONGEST_KIND.name.lower(),
        payload=bytes(PAYLOAD_BYTES_MAX),
        content_type=EMOJI * CONTENT_TYPE_CHARS_MAX,
        ref=RefRequest(type=text, id=text),
        acting_for=UUID(bytes=ID),
        requester=UUID(bytes=ID),
        expires_at_ms=N_MAX,
    )
    body = json.dumps(msgspec.to_builtins(request), separators=(",", ":")).encode()
    assert msgspec.json.decode(body, type=EventRequest) == request
    assert largest_service_event() - 400 < len(body) <= largest_service_event()


@pytest.mark.parametrize("kind", [str, float, dict[str, int]])
def test_a_type_without_a_limit_has_no_largest_text(kind: Any) -> None:
    with pytest.raises(TypeError, match="no largest JSON text"):
        largest_json(kind)
