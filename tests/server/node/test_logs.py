"""A record is one line with ids in fields of their own, and nothing that people write or that opens a door is in it."""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from protocol.codec import JSON, MSGPACK, Codec
from protocol.commands import Authenticate, Create, Edit, Roster, Send
from protocol.dialog_types import DialogType, Mode
from protocol.ids import to_text
from server.node import logs
from server.node.logs import RECORDS, JsonFormatter, TextFormatter
from storage.unavailable import StorageUnavailableError
from tests.support.api_world import ANN, BO, opened_api
from tests.support.clock import ManualClock
from tests.support.harness import Running
from tests.support.turns import until

SECRET = "opensesame"
CLIENTS = ("websockets.client", "httpx", "httpcore", "asyncio")
"""Loggers of the clients in this process, which tell what they send."""


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """All that is logged, at every level, as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(lambda record: not record.name.startswith(CLIENTS))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield stream
    root.setLevel(level)
    root.removeHandler(handler)


def forms_of(text: str) -> set[str]:
    """How a text may look in a log: as it is, as PostgreSQL shows bytes, in base64 at each of three offsets."""
    data = text.encode()
    return {text, data.hex()} | {base64.b64encode(bytes(at) + data)[4 * bool(at) : -4].decode() for at in range(3)}


def assert_absent(secret: str, text: str) -> None:
    assert [form for form in forms_of(secret) if form in text] == []


def record(message: str, *arguments: object, **extra: str) -> logging.LogRecord:
    made = logging.LogRecord("a.b", logging.WARNING, "", 1, message, arguments, None)
    made.__dict__.update(extra)
    return made


def test_a_record_for_machines_is_one_line_with_its_ids() -> None:
    line = JsonFormatter().format(record("first\nsecond %d", 2, dialog="d1", name_of_nothing="x"))
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["level"], fields["logger"], fields["message"]) == ("warning", "a.b", "first\nsecond 2")
    assert fields["dialog"] == "d1"
    assert fields["node"]
    assert fields["time"].endswith("Z")
    assert "name_of_nothing" not in fields


def test_a_record_for_people_is_one_line_too() -> None:
    line = TextFormatter().format(record("first\nsecond", principal="p1"))
    assert line.endswith("WARNING a.b: first\\nsecond principal=p1")


@pytest.mark.parametrize("form", [JsonFormatter(), TextFormatter()])
def test_what_postgresql_quotes_of_a_row_is_left_out(form: logging.Formatter) -> None:
    said = f"CheckViolationError: no\nDETAIL:  Failing row contains ({SECRET},\n{SECRET}).\nHINT:  {SECRET}"
    error = RuntimeError("around it")
    error.__cause__ = ValueError(said)
    broken = record("it failed: %s", said)
    broken.exc_info = (RuntimeError, error, None)
    for each in (broken, record("tried again: %r", ValueError(said))):
        text = form.format(each)
        assert SECRET not in text
        assert "CheckViolationError: no" in text
    assert "around it" in form.format(broken)


def test_records_are_counted_and_a_file_gets_json(monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    stream, before = io.StringIO(), RECORDS["error"]
    logs.configure("info", "auto", stream)
    logging.getLogger("server.x").error("it failed")
    logging.getLogger("server.x").debug("not at this level")
    assert json.loads(stream.getvalue())["message"] == "it failed"
    assert RECORDS["error"] == before + 1


@pytest.mark.anyio
@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda codec: codec.subprotocol)
async def test_no_log_of_sessions_has_content_or_tokens(
    server: Running, log: io.StringIO, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, bo = await server.world.people(2)
    payload = f"{SECRET} and more".encode()
    async with server.live(ann, codec) as a, server.live(bo, codec) as b, server.connected(codec) as stranger:
        await stranger.send(Authenticate(1, SECRET))
        await stranger.close_code()
        dialog = (await a.ask(Create(3, 1, DialogType.DIRECT, [bo.principal], mode=Mode.OPEN))).dialog
        await a.ask(Send(4, dialog, 2, payload))
        await a.ask(Edit(5, dialog, 3, 2, payload))
        await a.send(b'{"t":"' + payload + b'"')
        await a.receive()
        # a row that the store refuses, and quotes
        await server.world.pool.execute("ALTER TABLE journal ADD CHECK (octet_length(body) < 5) NOT VALID")
        assert (await a.ask(Send(6, dialog, 4, payload))).code == "internal"

        async def fault(*_: Any, **__: Any) -> Any:
            raise StorageUnavailableError(f"gone\nDETAIL:  {SECRET}")

        read_members = server.node.timelines.read_members

        async def bug(who: bytes, *rest: Any, **options: Any) -> Any:
            if who == bo.principal:  # the other may still be catching up with the new dialog
                raise ZeroDivisionError
            return await read_members(who, *rest, **options)

        monkeypatch.setattr(server.node.timelines, "read_members", bug)
        await b.send(Roster(7, dialog))
        await b.close_code()
        monkeypatch.setattr(server.node.journal, "flush", fault)
        await a.send(Send(8, dialog, 5, payload))
        await until(lambda: "is tried again" in log.getvalue())
    text = log.getvalue()
    records = [json.loads(line) for line in text.splitlines()]
    messages = [each["message"] for each in records]
    assert any(message.startswith("the store refused a flush") and "CheckViolation" in message for message in messages)
    (failed,) = (each for each in records if each["message"] == "a session failed")
    assert failed["principal"] == to_text(bo.principal)
    assert failed["device"] == to_text(bo.device)
    assert "ZeroDivisionError" in failed["traceback"]
    assert_absent(SECRET, text)
    assert_absent(server.token(ann), text)


@pytest.mark.anyio
async def test_no_log_of_the_api_has_phone_numbers_codes_or_tokens(
    database_url: str, clock: ManualClock, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened_api(database_url, clock) as api:
        me = await api.sign_in(ANN)
        await api.ask("POST", "/v1/sign-in/codes", {"phone_number": ANN, SECRET: SECRET})
        await api.ask("POST", "/v1/sign-in/codes", content=f'{{"phone_number": "{ANN}"'.encode())
        api.sent.broken = True
        await api.ask("POST", "/v1/sign-in/codes", {"phone_number": ANN})
        api.sent.broken = False
        for _ in range(2):
            await api.refresh(me.refresh_token)
            clock.advance(3600.0)
        await api.refresh(me.refresh_token)

        async def bug(*_: Any, **__: Any) -> Any:
            raise ZeroDivisionError

        me = await api.sign_in(BO)
        monkeypatch.setattr(api.identity.profiles, "find", bug)
        await me.ask("POST", "/v1/people/find", {"phone_number": ANN})
        code = api.sent.codes[ANN]
    text = log.getvalue()
    assert "could not be sent" in text
    assert "used twice" in text
    assert "a request failed" in text
    for secret in (ANN, ANN.removeprefix("+"), code, SECRET, me.access_token, me.refresh_token):
        assert_absent(secret, text)


def test_addresses_of_requests_that_the_server_makes_are_not_logged() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)
    logging.getLogger("httpx").info("HTTP Request: POST https://example.org/v1/principals/1/self/events")
    assert not stream.getvalue()
    assert not logging.getLogger("httpx").isEnabledFor(logging.INFO)
