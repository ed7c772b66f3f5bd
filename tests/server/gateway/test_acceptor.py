"""The public port over real sockets: which protocol a connection gets, and which connections are refused."""

import asyncio
import sys
from typing import Any

import pytest
import websockets

from server.gateway.frames import TEXT, encode
from tests.support.fake_network import text
from tests.support.public_port import SUBPROTOCOL, UPGRADE, public_port

pytestmark = pytest.mark.anyio

HELLO = b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(params=[{"debug": True}, {"use_uvloop": True}], ids=["asyncio debug", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", request.param


async def test_a_client_talks_to_the_peer_and_closes() -> None:
    async with public_port() as port:
        async with websockets.connect(port.url, subprotocols=[websockets.Subprotocol(SUBPROTOCOL)]) as client:
            await client.send("héllo")
            assert await client.recv() == "héllo"
            await client.send([b"in ", b"parts"])
            assert await client.recv() == b"in parts"
            await (await client.ping())
            assert port.peers[0].connection.subprotocol == SUBPROTOCOL
            assert port.peers[0].connection.address == "127.0.0.1"
        assert client.close_code == 1000
        await port.peers[0].ended.wait()


async def test_compression_is_declined_and_messages_go_uncompressed() -> None:
    async with (
        public_port() as port,
        websockets.connect(
            port.url, subprotocols=[websockets.Subprotocol(SUBPROTOCOL)], compression="deflate"
        ) as client,
    ):
        await client.send("x" * 1000)
        assert await client.recv() == "x" * 1000


async def test_frames_in_the_same_segment_as_the_handshake_are_read() -> None:
    async with public_port() as port:
        wire = await port.connect(UPGRADE + b"\r\n" + text("1") + text("2")[:3])
        assert (await wire.head()).startswith("HTTP/1.1 101 ")
        wire.send(text("2")[3:])
        expected = encode(TEXT, b"1") + encode(TEXT, b"2")
        assert await wire.reader.readexactly(len(expected)) == expected


async def test_a_handshake_may_arrive_byte_by_byte() -> None:
    async with public_port() as port:
        wire = await port.connect()
        for byte in UPGRADE + b"\r\n" + text("1"):
            wire.send(bytes((byte,)))
            await wire.writer.drain()
            await asyncio.sleep(0)
        await wire.head()
        assert await wire.reader.readexactly(3) == encode(TEXT, b"1")


async def test_the_server_closes_with_a_code_and_a_reason() -> None:
    async with public_port() as port:
        async with websockets.connect(port.url, subprotocols=[websockets.Subprotocol(SUBPROTOCOL)]) as client:
            await client.send("x")
            await client.recv()
            port.peers[0].connection.close(4000, "draining")
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await client.recv()
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4000, "draining")
        await port.peers[0].ended.wait()


async def test_a_client_that_never_answers_a_close_is_disconnected() -> None:
    async with public_port(close_timeout_s=0.01) as port:
        wire = await port.connect(UPGRADE + b"\r\n" + text("1"))
        await wire.head()
        await wire.reader.readexactly(3)
        port.peers[0].connection.close(4000, "")
        await port.peers[0].ended.wait()


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHost:", b"PROXY TC"], ids=["silent", "half", "proxy"])
async def test_a_head_that_never_ends_is_disconnected(data: bytes) -> None:
    async with public_port(handshake_timeout_s=0.01) as port:
        wire = await port.connect(data)
        assert await wire.rest() == b""


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"\x16\x03\x01\x02\x00", 400, "TLS"),
        (b"\x00\x01binary", 400, "not an HTTP request"),
        (UPGRADE + b"Content-Length: 5\r\n\r\nhello", 400, "no body"),
        (UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "no body"),
        (UPGRADE.replace(b"GET", b"POST") + b"\r\n", 400, "GET"),
        (UPGRADE.replace(b"/v1/ws", b"/v2/ws") + b"\r\n", 404, "/v1/ws"),
        (UPGRADE.replace(b"v1.json", b"v9.json") + b"\r\n", 400, "offer one of the subprotocols tchat.v1.json"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "exclude"),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400, "LF"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n", 400, "name: value"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n", 400, "name: value"),
        (b"GET /" + b"a" * 20_000, 431, "larger"),
        (b"PROXY TCP4 192.0.2.7 203.0.113.1 51234 443\r\n" + HELLO, 400, "configured proxies"),
        (b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00" + HELLO, 400, "configured proxies"),
    ],
)
async def test_a_bad_first_request_is_refused_with_a_reason(data: bytes, status: int, says: str) -> None:
    async with public_port() as port:
        wire = await port.connect(data)
        assert (answer := await wire.response())[0] == status
        assert says in answer[1]
        assert await wire.rest() == b""
        assert port.peers == []


async def test_a_port_without_websockets_refuses_them_and_answers_requests() -> None:
    async with public_port() as port:
        port.acceptor.peer_factory = None
        upgrade = await port.connect(UPGRADE + b"\r\n")
        assert await upgrade.statuses() == [404]
        request = await port.connect(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert await request.statuses() == [200]


async def test_two_pipelined_requests_are_answered_in_order() -> None:
    async with public_port() as port:
        wire = await port.connect(HELLO + HELLO.replace(b"hello", b"again"))
        assert await wire.response() == (200, "127.0.0.1 /hello 0")
        assert await wire.response() == (200, "127.0.0.1 /again 0")


async def test_a_full_node_says_when_to_retry() -> None:
    async with public_port(connections_max=1, retry_after_s=7) as port:
        await (await port.connect(UPGRADE + b"\r\n")).head()
        refused = await port.connect()
        assert "Retry-After: 7\r\n" in (head := await refused.head())
        assert head.startswith("HTTP/1.1 503 ")


@pytest.mark.parametrize("limit", ["connections_per_address_max", "connects_per_address_per_s"])
async def test_an_address_at_its_limit_is_refused_and_another_is_not(limit: str) -> None:
    async with public_port(**{limit: 1}) as port:
        await (await port.connect(UPGRADE + b"\r\n")).head()
        refused = await port.connect()
        assert (await refused.head()).startswith("HTTP/1.1 429 ")
        assert "101" in await (await port.connect(UPGRADE + b"\r\n", source="127.0.0.2")).head()


async def test_a_proxys_header_names_the_client_for_websockets_and_http() -> None:
    async with public_port(trusted_proxies=("127.0.0.1",), connections_per_address_max=1) as port:
        header = b"PROXY TCP4 192.0.2.7 203.0.113.1 51234 443\r\n"
        await (await port.connect(header + UPGRADE + b"\r\n")).head()
        assert port.peers[0].connection.address == "192.0.2.7"
        assert (await (await port.connect(header + UPGRADE + b"\r\n")).head()).startswith("HTTP/1.1 429 ")
        other = await port.connect(header.replace(b"192.0.2.7", b"192.0.2.8") + HELLO)
        assert await other.response() == (200, "192.0.2.8 /hello 0")


async def test_clients_of_one_address_share_its_text_which_the_interpreter_does_not_keep() -> None:
    async with public_port() as port:
        for _ in range(2):
            await (await port.connect(UPGRADE + b"\r\n", source="127.0.0.9")).head()
        one, other = (peer.connection.address for peer in port.peers)
        assert one is other
        fresh = bytes([49, 50, 55]).decode() + ".0.0.9"
        assert sys.intern(fresh) is fresh


async def test_a_forwarded_header_names_the_client_for_each_request() -> None:
    async with public_port(trusted_proxies=("127.0.0.1",)) as port:
        forwarded = b"X-Forwarded-For: 192.0.2.7\r\n\r\n"
        await (await port.connect(UPGRADE + forwarded)).head()
        assert port.peers[0].connection.address == "192.0.2.7"
        wire = await port.connect(HELLO[:-2] + forwarded + HELLO[:-2] + forwarded.replace(b"2.7", b"2.8") + HELLO)
        answers = [(await wire.response())[1] for _ in range(3)]
        assert answers == ["192.0.2.7 /hello 0", "192.0.2.8 /hello 0", "127.0.0.1 /hello 0"]


async def test_a_forwarded_header_of_an_untrusted_address_is_ignored() -> None:
    async with public_port() as port:
        forwarded = b"X-Forwarded-For: 192.0.2.7\r\nForwarded: for=192.0.2.7\r\n\r\n"
        await (await port.connect(UPGRADE + forwarded)).head()
        assert port.peers[0].connection.address == "127.0.0.1"
        assert await (await port.connect(HELLO[:-2] + forwarded)).response() == (200, "127.0.0.1 /hello 0")


async def test_a_stopping_node_accepts_no_connections_and_keeps_the_open_ones() -> None:
    async with public_port() as port:
        wire = await port.connect(UPGRADE + b"\r\n")
        await wire.head()
        port.acceptor.stop_accepting()
        with pytest.raises(ConnectionRefusedError):
            await port.connect()
        wire.send(text("still here"))
        assert await wire.reader.readexactly(12) == encode(TEXT, b"still here")


async def test_a_port_in_use_is_an_error_of_listen() -> None:
    async with public_port() as port:
        with pytest.raises(OSError, match="in use"):
            await port.acceptor.listen("127.0.0.1", port.port)


async def test_a_client_that_disconnects_at_any_moment_is_uncounted() -> None:
    request = UPGRADE + b"\r\n" + text("x")
    async with public_port() as port:
        for end in (0, 1, len(UPGRADE), len(UPGRADE) + 2, len(request) - 1, len(request)):
            wire = await port.connect(request[:end])
            await wire.writer.drain()
            wire.writer.transport.abort()
