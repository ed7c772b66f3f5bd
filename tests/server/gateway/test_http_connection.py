"""HTTP connections: what the app gets, and the limits and rules around uvicorn."""

import asyncio
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from server.gateway import http_connection
from tests.support.public_port import UPGRADE, PublicPort, public_port
from tests.support.turns import until

pytestmark = pytest.mark.anyio

HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"
HOLD = HELLO.replace(b"hello", b"hold")


@pytest.fixture(params=[{"debug": True}, {"use_uvloop": True}], ids=["asyncio debug", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", request.param


async def test_a_request_with_a_body_in_pieces_is_answered_and_the_connection_kept() -> None:
    async with public_port() as port:
        wire = await port.connect(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe")
        wire.send(b"llo")
        assert await wire.response() == (200, "127.0.0.1 /a 5")
        wire.send(b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        assert await wire.response() == (200, "127.0.0.1 /b 3")


async def test_responses_carry_the_date_of_the_clock() -> None:
    async with public_port() as port:
        wire = await port.connect()
        dates = []
        for _ in range(2):
            wire.send(HELLO)
            head = (await wire.head()).lower()
            await wire.reader.readexactly(len("127.0.0.1 /hello 0"))
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            dates.append(parsedate_to_datetime(fields["date"]).timestamp())
            port.clock.advance(60)
        assert dates[1] - dates[0] == 60
        assert dates[1] == port.clock.wall_ms() / 1000 - 60


async def test_an_upgrade_on_a_kept_alive_connection_is_refused_and_ends_it() -> None:
    async with public_port() as port:
        wire = await port.connect(HELLO)
        await wire.response()
        wire.send(UPGRADE + b"\r\n" + HELLO)
        status, body = await wire.response()
        assert status == 400
        assert "of its own" in body
        assert await wire.rest() == b""
        assert port.peers == []


async def test_an_upgrade_behind_a_pipelined_request_is_refused_after_its_answer() -> None:
    async with public_port() as port:
        wire = await port.connect(HOLD + UPGRADE + b"\r\n" + HELLO)
        await port.app.entered.wait()
        port.app.released.set()
        assert await wire.statuses() == [200, 400]


async def test_an_upgrade_to_something_else_is_ignored_and_the_connection_ends_after_it() -> None:
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n"
    async with public_port() as port:
        wire = await port.connect(HELLO[:-2] + upgrade + HELLO)
        assert await wire.statuses() == [200]


@pytest.mark.parametrize(
    "data",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01",
        b"GET /" + b"a" * 20_000,
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    ],
    ids=[
        "both lengths",
        "two lengths",
        "coding",
        "lf",
        "space",
        "fold",
        "connect",
        "tls",
        "long url",
        "long header",
        "no host",
        "two hosts",
    ],
)
async def test_later_requests_obey_the_same_rules(data: bytes) -> None:
    async with public_port() as port:
        wire = await port.connect(HELLO)
        await wire.response()
        wire.send(data + HELLO)
        assert await wire.statuses() == [400]


async def test_malformed_bytes_behind_an_unanswered_request_get_no_response_of_their_own() -> None:
    async with public_port() as port:
        wire = await port.connect(HOLD + b"garbage\r\n\r\n")
        await port.app.entered.wait()
        port.app.released.set()
        assert await wire.statuses() == [200]


async def test_a_broken_body_is_answered_with_400() -> None:
    async with public_port() as port:
        wire = await port.connect(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
        assert await wire.statuses() == [400]


async def test_a_broken_body_behind_an_unanswered_request_ends_the_connection() -> None:
    async with public_port() as port:
        wire = await port.connect(
            HOLD + b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n"
        )
        assert await wire.statuses() == []


async def test_too_many_pipelined_requests_end_the_connection_after_the_first_answers() -> None:
    async with public_port() as port:
        wire = await port.connect(HOLD + HELLO * 100)
        await port.app.entered.wait()
        port.app.released.set()
        assert await wire.statuses() == [200] * 17


async def test_an_idle_connection_is_closed() -> None:
    async with public_port(http_idle_timeout_s=0) as port:
        wire = await port.connect(HELLO)
        assert await wire.statuses() == [200]


@pytest.mark.parametrize(
    "data",
    [HELLO + b"GET / HT", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe"],
    ids=["second head", "body"],
)
async def test_a_request_that_never_completes_is_disconnected(data: bytes) -> None:
    async with public_port(http_request_timeout_s=0.01) as port:
        wire = await port.connect(data)
        await wire.rest()


async def test_a_client_that_stops_reading_is_disconnected() -> None:
    async with public_port(http_request_timeout_s=0.01) as port:
        wire = await port.connect(HELLO.replace(b"hello", b"big"))
        await wire.head()
        await port.until_empty()


async def test_stopping_closes_idle_connections_and_lets_others_finish() -> None:
    async with public_port() as port:
        idle, busy = await port.connect(HELLO), await port.connect(HOLD)
        await idle.response()
        await port.app.entered.wait()
        assert len(port.acceptor.http.connections) == 2
        port.acceptor.http.connections[0].loop.call_soon(port.app.released.set)
        await port.acceptor.close_http(5)
        assert port.acceptor.http.connections == []
        assert await idle.rest() == b""
        assert await busy.statuses() == [200]


async def test_stopping_waits_no_longer_than_its_timeout() -> None:
    async with public_port() as port:
        wire = await port.connect(HOLD)
        await port.app.entered.wait()
        await port.acceptor.close_http(0.01)
        assert await wire.rest() == b""


CHUNKED = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def test_fields_after_a_body_are_refused() -> None:
    async with public_port() as port:
        wire = await port.connect(CHUNKED + b"3\r\nabc\r\n0\r\nX-Field: 1\r\n\r\n")
        assert await wire.statuses() == [400]


@pytest.mark.parametrize(
    "endless",
    [b"0\r\nX: " + bytes(b"y" * 60_000), b"1;" + b"e" * 60_000, b"1\r\na\r\n" * 10_000],
    ids=["a field without an end", "an extension without an end", "chunks of one byte"],
)
async def test_what_surrounds_a_body_is_bounded(endless: bytes) -> None:
    async with public_port() as port:
        wire = await port.connect(CHUNKED)
        wire.send(endless)
        assert await wire.statuses() == [400]


async def test_a_body_in_small_chunks_is_taken() -> None:
    async with public_port() as port:
        wire = await port.connect(CHUNKED + (b"40\r\n" + bytes(64) + b"\r\n") * 1000 + b"0\r\n\r\n")
        assert await wire.response() == (200, "127.0.0.1 /a 64000")


async def test_bodies_that_wait_are_bounded_over_all_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "_WAITING_BYTES_MAX", 2500)
    part = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n" + bytes(1000)
    async with public_port() as port:
        first = await port.connect(part)
        await _until_waiting(port, 1000)
        second = await port.connect(part)
        await _until_waiting(port, 2000)
        third = await port.connect(part)
        async with asyncio.timeout(10):
            assert await first.rest() == b""
        whole = await port.connect(part + b"x")
        assert await whole.response() == (200, "127.0.0.1 /a 1001")
        for wire in (second, third):
            wire.send(b"x")
            assert await wire.response() == (200, "127.0.0.1 /a 1001")
        assert (port.acceptor.http.waiting_bytes, port.acceptor.http.waiting) == (0, {})


async def test_who_holds_as_many_bodies_open_as_possible_does_not_end_the_request_of_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(http_connection, "_WAITING_BYTES_MAX", 2500)
    part = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n" + bytes(500)
    async with public_port() as port:
        held = [await port.connect(part) for _ in range(5)]
        await _until_waiting(port, 2500)
        honest = await port.connect(part)
        async with asyncio.timeout(10):
            assert await held[0].rest() == b""
        honest.send(bytes(501))
        assert await honest.response() == (200, "127.0.0.1 /a 1001")


async def _until_waiting(port: PublicPort, size: int) -> None:
    await until(lambda: port.acceptor.http.waiting_bytes >= size)


async def test_who_sends_what_is_no_request_may_connect_more_slowly() -> None:
    async with public_port() as port:
        for _ in range(10):
            wire = await port.connect(CHUNKED + b"0\r\nX-Field: 1\r\n\r\n")
            assert await wire.statuses() == [400]
        await port.until_empty()
        assert await (await port.connect(HELLO)).statuses() == [429]
