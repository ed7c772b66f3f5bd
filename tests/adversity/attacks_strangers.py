"""Attacks by strangers: nobody has signed in."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from protocol.codec import JSON, MSGPACK
from protocol.commands import Authenticate
from protocol.ids import new_id
from tests.adversity.attacks_wire import Attacker, binary
from tests.support.colliding import packed_table
from tests.support.fake_network import client_frame, ping, text

_CONTINUATION, _TEXT = 0, 1
_CHUNKED = (
    b"POST /v1/sign-in HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
)
_POST = b"POST /v1/sign-in HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
_NOT_FOUND = b"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n"


async def _flood_frames(attacker: Attacker, frames: bytes, first: bytes = b"") -> None:
    async def act() -> None:
        async with attacker.upgraded() as raw:
            await raw.send(first)
            await raw.flood(frames)

    await attacker.repeat(4, act)


async def pings(attacker: Attacker) -> None:
    """Empty pings."""
    await _flood_frames(attacker, ping() * 10_000)


async def long_pings(attacker: Attacker) -> None:
    """Pings of the largest size: each asks for as much back."""
    await _flood_frames(attacker, ping(bytes(125)) * 500)


async def empty_fragments(attacker: Attacker) -> None:
    """One message in fragments of nothing."""
    first = client_frame(_TEXT, fin=False)
    await _flood_frames(attacker, client_frame(_CONTINUATION, fin=False) * 10_000, first)


async def empty_messages(attacker: Attacker) -> None:
    """Messages of nothing."""
    await _flood_frames(attacker, binary(b"") * 10_000)


async def floods_after_the_close(attacker: Attacker) -> None:
    """Frames, after a protocol error has closed the connection."""
    await _flood_frames(attacker, binary(b"") * 10_000, client_frame(_TEXT, b"\xff"))


async def _flood_http(attacker: Attacker, head: bytes, data: bytes) -> None:
    async def act() -> None:
        async with attacker.connected(head) as raw:
            await raw.flood(data)

    await attacker.repeat(4, act)


async def trailers(attacker: Attacker) -> None:
    """Fields after a chunked body, without an end."""
    await _flood_http(attacker, _CHUNKED + b"0\r\n", b"x-field: " + b"y" * 1000 + b"\r\n")


async def one_long_trailer(attacker: Attacker) -> None:
    """One field after a chunked body, without an end."""
    await _flood_http(attacker, _CHUNKED + b"0\r\nx-field: ", b"y" * 65_536)


async def chunk_extensions(attacker: Attacker) -> None:
    """The head of a chunk, without an end."""
    await _flood_http(attacker, _CHUNKED + b"1;", b"e" * 65_536)


async def tiny_chunks(attacker: Attacker) -> None:
    """A body in chunks of one byte."""
    await _flood_http(attacker, _CHUNKED, b"1\r\na\r\n" * 10_000)


async def many_requests(attacker: Attacker) -> None:
    """Requests in one go, for what does not exist."""
    await _flood_http(attacker, b"", _NOT_FOUND * 100)


async def big_heads(attacker: Attacker) -> None:
    """Heads of the largest size, of many fields."""
    fields = b"".join(b"x-%d: y\r\n" % number for number in range(1500))

    async def act() -> None:
        async with attacker.connected(b"GET /nothing HTTP/1.1\r\nHost: a\r\n" + fields[:16_000] + b"\r\n\r\n") as raw:
            await raw.read_all()

    await attacker.repeat(20, act)


async def aborted_bodies(attacker: Attacker) -> None:
    """Requests whose client leaves in the middle of the body."""

    async def act() -> None:
        async with attacker.connected(_POST + b"{" * 1000):
            await asyncio.sleep(0.01)

    await attacker.repeat(20, act)


async def half_heads(attacker: Attacker) -> None:
    """Many heads that never end."""
    await attacker.hold(500, attacker.connected, b"GET / HTTP/1.1\r\nHost: a\r\nx: " + b"y" * 15_000)


async def half_bodies(attacker: Attacker) -> None:
    """Many bodies that never end."""
    await attacker.hold(500, attacker.connected, _POST + b"{" * 50_000)


async def half_messages(attacker: Attacker) -> None:
    """Many messages that never end."""
    await attacker.hold(500, attacker.upgraded, binary(bytes(100_000))[:15_000])


async def handshakes(attacker: Attacker) -> None:
    """Connect, upgrade, leave."""

    async def act() -> None:
        async with attacker.upgraded():
            pass

    await attacker.repeat(50, act)


async def proxy_headers(attacker: Attacker) -> None:
    """Connections that say to come from somewhere else; the goal is to be believed."""

    async def act() -> None:
        head = b"PROXY TCP4 203.0.113.%d 127.0.0.1 5 80\r\n" % attacker.rng.randrange(256)
        async with attacker.connected(head + _NOT_FOUND) as raw:
            answer = await raw.reader.read(12)
            if answer == b"HTTP/1.1 404":  # not 400, and not 429 for all that came before
                attacker.reached = "a PROXY header was believed"

    await attacker.repeat(20, act)


async def colliding_keys(attacker: Attacker) -> None:
    """Messages that must be refused, with a table of keys that collide; as large as a stranger may send."""
    body = b"\x95\x0a\x01\xc4\x10" + new_id() + b"\x00" + packed_table(1100)
    await _answer_to_nobody(attacker, 8, binary(body), MSGPACK.subprotocol)


async def big_refusals(attacker: Attacker) -> None:
    """Large messages that must be refused, in JSON."""
    body = msgspec.json.encode({"tag": "send", "id": 1, "x": {str(number): 0 for number in range(1200)}})
    await _answer_to_nobody(attacker, 8, text(body.decode()), JSON.subprotocol)


async def unread_refusals(attacker: Attacker) -> None:
    """Two hundred who send nonsense and do not read."""
    await _answer_to_nobody(attacker, 200, binary(b"\xc1") * 200, MSGPACK.subprotocol)


async def _answer_to_nobody(attacker: Attacker, count: int, data: bytes, subprotocol: str) -> None:
    async def act() -> None:
        async with attacker.upgraded(subprotocol) as raw:
            await raw.flood(data)

    await attacker.repeat(count, act)


async def garbage_tokens(attacker: Attacker) -> None:
    """Sign-ins with tokens that are none, and with tokens of keys that nobody has."""
    forged = "eyJhbGciOiJFZERTQSIsImtpZCI6Im5vYm9keSJ9." + attacker.target.tokens[0].split(".", 1)[1]
    tokens = ["x" * 8000, forged, attacker.target.tokens[0][:-8] + "AAAAAAAA"]

    async def act() -> None:
        async with attacker.upgraded() as raw:
            await raw.send(binary(MSGPACK.encode(Authenticate(1, attacker.rng.choice(tokens), new_id()))))
            await raw.read_all()

    await attacker.repeat(50, act)


async def refreshes(attacker: Attacker) -> None:
    """Guesses of refresh tokens."""
    await _ask(attacker, "/v1/tokens/refresh", {"refresh_token": "A" * 43})


async def code_floods(attacker: Attacker) -> None:
    """Codes for as many numbers as possible; the goal is to cost the operator more than was said."""
    sent = 0

    async def act() -> None:
        nonlocal sent
        number = f"+659{attacker.rng.randrange(10**7):07}"
        status, _ = await attacker.request("POST", "/v1/sign-in/codes", {"phone_number": number})
        sent += status == 202
        if sent > 240 + attacker.target.seconds:
            attacker.reached = f"{sent} codes were sent at the request of one network"

    await attacker.repeat(20, act)


async def _ask(attacker: Attacker, path: str, body: object) -> None:
    async def act() -> None:
        await attacker.request("POST", path, body)

    await attacker.repeat(20, act)


async def lock_out(attacker: Attacker) -> None:
    """Wrong codes and requests for the number of somebody else; the goal is that its owner cannot sign in."""
    number = f"+6591{attacker.rng.randrange(10**6):06}"
    device = {"platform": "ios", "app_version": "1.0"}
    wish = {"phone_number": number, "code": "000000", "device": device, "display_name": "Owner"}
    owner = f"127.0.{200 + attacker.target.number}.1"

    async def act() -> None:
        await attacker.request("POST", "/v1/sign-in/codes", {"phone_number": number})
        for _ in range(5):
            await attacker.request("POST", "/v1/sign-in", wish)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(attacker.left_s * 0.8):
            await attacker.repeat(4, act)
    for _ in range(5):  # the node itself sends so many codes a second; its owner can wait for that
        status, sent = await attacker.request("POST", "/v1/sign-in/codes", {"phone_number": number}, address=owner)
        if status != 429 or sent["retry_after_s"] > 5:
            break
        await asyncio.sleep(sent["retry_after_s"])
    if status != 202:
        attacker.reached = f"the owner of a number gets no code: {sent}"
        return
    code = _newest_code(attacker.target.log, number)
    mine = wish | {"code": code} | ({"code_id": sent["code_id"]} if "code_id" in sent else {})
    status, answer = await attacker.request("POST", "/v1/sign-in", mine, address=owner)
    if status != 200:
        attacker.reached = f"the owner of a number cannot sign in: {answer}"


def _newest_code(log: str, number: str) -> str:
    with open(log, encoding="utf-8") as lines:  # noqa: PTH123 - a path as text, from another process
        (*_, line) = (line for line in lines if f"code for {number}: " in line)
    return line.split(f"code for {number}: ")[1].split()[0].rstrip(".")


STRANGERS = (
    pings,
    long_pings,
    empty_fragments,
    empty_messages,
    floods_after_the_close,
    trailers,
    one_long_trailer,
    chunk_extensions,
    tiny_chunks,
    many_requests,
    big_heads,
    aborted_bodies,
    half_heads,
    half_bodies,
    half_messages,
    handshakes,
    proxy_headers,
    colliding_keys,
    big_refusals,
    unread_refusals,
    garbage_tokens,
    refreshes,
    code_floods,
    lock_out,
)
