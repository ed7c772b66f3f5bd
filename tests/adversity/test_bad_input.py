"""Bad input over a real socket: a clear answer, and everybody else, the same connection included, goes on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import jwt
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from protocol import ids
from protocol.bodies import TimelineEvent
from protocol.codec import JSON, MSGPACK, Codec
from protocol.commands import (
    Add,
    Authenticate,
    Block,
    Create,
    Delete,
    Edit,
    Heartbeat,
    HighWaterMark,
    History,
    Leave,
    Mute,
    PresenceSubscribe,
    Promote,
    React,
    Receipt,
    Remove,
    Roster,
    Send,
    SignOut,
    Sync,
)
from protocol.dialog_types import DialogType, Mode
from protocol.events import DialogState, HeartbeatReply
from protocol.limits import N_MAX
from protocol.replies import Acked, Done, Failed, HistoryPage, RosterPage, Synced
from server.config.settings import SessionSettings
from server.identity.signing_keys import SigningKeys, new_pem
from server.identity.tokens import Tokens
from tests.support.clock import ManualClock
from tests.support.harness import Running, Wire, configured, running
from tests.support.world import Person

pytestmark = pytest.mark.anyio

_pack = msgspec.msgpack.encode
NONSENSE: dict[str, dict[str, bytes]] = {
    MSGPACK.subprotocol: {
        "nothing": b"",
        "no command at all": _pack(None),
        "a map": _pack({"tag": 3, "id": 1}),
        "an array without a tag": _pack([]),
        "a tag that is text": _pack(["heartbeat", 1]),
        "an unknown tag": _pack([9999, 1]),
        "a tag past 64 bits": b"\x92\xcf" + b"\xff" * 8 + b"\x01",
        "a negative id": _pack([3, -1]),
        "an id past what JSON holds": _pack([3, 2**53]),
        "an id of 64 bits": _pack([3, 2**64 - 1]),
        "an id that is a fraction": _pack([3, 1.5]),
        "an id that is no number": _pack([3, float("nan")]),
        "cut short": _pack([10, 1, bytes(16)])[:-1],
        "two commands in one message": _pack([3, 1]) * 2,
        "an array of four billion": b"\xdd\xff\xff\xff\xff\x03\x01",
        "bytes of four billion": b"\x94\x0a\x01\xc6\xff\xff\xff\xff",
        "text that is not UTF-8": b"\x93\x01\x01\xa2\xff\xfe",
        "nested deeper than a stack": b"\x91" * 60_000 + b"\x01",
        "a short dialog id": _pack([10, 1, bytes(15), 1, b""]),
        "an n of zero": _pack([10, 1, bytes(16), 0, b""]),
        "an n too large": _pack([10, 1, bytes(16), 2**53, b""]),
        "an unknown kind": _pack([10, 1, bytes(16), 1, b"", [], 77]),
        "a header that is a number": _pack([10, 1, bytes(16), 1, b"", 7]),
        "more history than a page": _pack([20, 1, bytes(16), 1, 5, 201, True]),
        "an extension": b"\xc7\x05\x01hello",
    },
    JSON.subprotocol: {
        "nothing": b"",
        "no object": b"[3, 1]",
        "an object without a tag": b'{"id": 1}',
        "a tag that is a number": b'{"tag": 3, "id": 1}',
        "an unknown tag": b'{"tag": "launch", "id": 1}',
        "cut short": b'{"tag": "heartbeat", "id": 1',
        "two commands in one message": b'{"tag": "heartbeat", "id": 1}{"tag": "heartbeat", "id": 2}',
        "a negative id": b'{"tag": "heartbeat", "id": -1}',
        "an id of four thousand digits": b'{"tag": "heartbeat", "id": ' + b"9" * 4000 + b"}",
        "an id past all floats": b'{"tag": "heartbeat", "id": 1e999}',
        "an id that is no number": b'{"tag": "heartbeat", "id": NaN}',
        "half a surrogate pair": b'{"tag": "authenticate", "id": 1, "token": "\\ud800"}',
        "nested deeper than a stack": b'{"tag": "heartbeat", "id": ' + b"[" * 60_000,
        "objects deeper than a stack": b'{"a":' * 10_000,
        "base64 that is none": b'{"tag": "send", "id": 1, "dialog": "%s", "n": 1, "payload": "&"}'
        % ids.to_text(bytes(16)).encode(),
        "an id without dashes": b'{"tag": "typing", "id": 1, "dialog": "%s"}' % (b"0" * 32),
        "an enum by its number": b'{"tag": "create", "id": 1, "n": 1, "type": 2, "members": []}',
    },
}


async def alive(wire: Wire) -> None:
    """The connection still answers."""
    await wire.send(Heartbeat(0))
    await wire.until(HeartbeatReply)


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=lambda codec: codec.subprotocol)
async def test_nonsense_is_answered_and_the_session_goes_on(server: Running, codec: Codec) -> None:
    answers = {}
    for name, data in NONSENSE[codec.subprotocol].items():
        async with server.live(await server.world.person(), codec) as wire:
            await wire.send(data)
            answer = await wire.receive()
            assert isinstance(answer, Failed), name
            answers[name] = answer.code
            await alive(wire)
    unknown = {name for name, code in answers.items() if code == "unknown_command"}
    assert {name for name, code in answers.items() if code != "malformed"} == unknown
    assert unknown <= {"an unknown tag", "a tag past 64 bits"}


async def test_text_that_is_not_utf8_closes_with_1007(server: Running) -> None:
    async with server.connected(JSON) as wire:
        await wire.socket.send(b'{"tag": "heartbeat", "id": "\xff"}', text=True)
        assert await wire.close_code() == 1007


@pytest.fixture
async def unhurried(database_url: str) -> AsyncIterator[Running]:
    """A node that lets one client ask for as much as it likes."""
    settings = SessionSettings(commands_per_s=1e6, commands_burst=10**6)
    async with running(database_url, configured(sessions=settings)) as node:
        yield node


async def test_extremes_that_the_types_allow_are_dealt_with(unhurried: Running) -> None:
    server = unhurried
    ann, bo, cy = await server.world.people(3)
    dialog = await server.world.create(DialogType.GROUP, ann, bo, cy)
    await server.world.create(DialogType.SELF, ann)
    nobody = [ids.new_id() for _ in range(1000)]
    async with server.live(ann) as wire:
        page = await wire.ask(History(1, dialog, N_MAX, N_MAX, 200))
        assert (page.events, page.more) == ([], False)
        assert await wire.ask(History(2, dialog, 5, 4)) == HistoryPage(2, dialog, [])
        assert await wire.ask(Roster(3, dialog, b"\xff" * 16)) == RosterPage(3, dialog, [])
        assert await wire.ask(Receipt(4, HighWaterMark(dialog, N_MAX, N_MAX))) == Done(4)
        assert await wire.ask(PresenceSubscribe(5, nobody[:500])) == Done(5)
        assert (await wire.ask(Add(6, dialog, 10, nobody))).code == "members_bound"
        assert (await wire.ask(Add(7, dialog, 11, nobody[:900]))).code == "principal_not_found"
        assert (await wire.ask(Create(8, 12, DialogType.CHANNEL, nobody, "c"))).code == "principal_not_found"
        assert (
            await wire.ask(Create(9, 13, DialogType.GROUP, [bo.principal] * 5, "g", mode=Mode.OPEN))
        ).code == "members_bound"
        assert (
            await wire.ask(Create(10, 14, DialogType.GROUP, [bo.principal, cy.principal], "a\0", mode=Mode.OPEN))
        ).code == ("invalid_argument")
        assert isinstance(await wire.ask(Mute(11, dialog, 15, N_MAX)), Acked)
        assert isinstance(await wire.ask(Send(12, dialog, N_MAX, b"the last number there is")), Acked)
        assert (await wire.ask(Send(13, dialog, N_MAX - 1, b"too late"))).code == "number_passed"
    await server.node.receipts.flush()
    async with server.live(bo) as wire:
        (state,) = [message for message in wire.caught_up if isinstance(message, DialogState)]
        assert max(member.read for member in state.members) == 2  # the head: nobody reads past it


async def test_nothing_is_done_after_signing_out(server: Running) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    async with server.live(ann) as wire:
        for command in (SignOut(1), Send(2, dialog, 10, b"a last word"), History(3, dialog)):
            await wire.send(command)
        assert await wire.receive() == Done(1)
        assert await wire.close_code() == 4200
    rows = await server.world.pool.fetch("SELECT seq FROM journal WHERE dialog_id = $1", dialog)
    assert len(rows) == 1


async def test_every_command_may_come_twice(server: Running) -> None:
    ann, bo, cy, di = await server.world.people(4)
    await server.world.create(DialogType.SELF, ann)
    async with server.live(ann) as wire:
        create = Create(1, 1, DialogType.GROUP, [bo.principal, cy.principal], "g", mode=Mode.OPEN)
        dialog = (await wire.ask(create)).dialog
        commands = [
            create,
            Send(1, dialog, 2, b"hello"),
            Edit(1, dialog, 3, 2, b"hello!"),
            React(1, dialog, 4, 2, b"+1"),
            Add(1, dialog, 5, [di.principal]),
            Promote(1, dialog, 6, bo.principal),
            Remove(1, dialog, 7, cy.principal),
            Block(1, cy.principal, 8),
            Mute(1, dialog, 9, 5),
            Delete(1, dialog, 10, 2),
            Leave(1, dialog, 11),
        ]
        first = [await wire.ask(command) for command in commands]
        again = [await wire.ask(command) for command in commands]
    assert [type(reply) for reply in first] == [Acked] * len(commands)
    assert again == first


async def test_one_number_carries_one_message(server: Running) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    async with server.live(ann) as wire:
        acked = await wire.ask(Send(1, dialog, 5, b"one"))
        assert (await wire.ask(Send(2, dialog, 5, b"two"))).code == "conflict"
        assert (await wire.ask(React(3, dialog, 5, 2, b"+1"))).code == "conflict"
        assert (await wire.ask(Delete(4, dialog, 5, 2))).code == "conflict"
        assert (await wire.ask(Send(5, dialog, 4, b"zero"))).code == "number_passed"
        assert await wire.ask(Send(1, dialog, 5, b"one")) == acked


async def test_what_is_anothers_stays_theirs(server: Running) -> None:
    ann, bo, cy = await server.world.people(3)
    stranger = await server.world.person(tenant=1)
    service = await server.world.person(4)
    group = await server.world.create(DialogType.GROUP, ann, bo, cy)
    other = await server.world.create(DialogType.DIRECT, ann, cy)
    said = (await server.world.say(group, ann)).seq
    elsewhere = [await server.world.say(other, ann) for _ in range(3)][-1].seq
    async with server.live(bo) as wire:
        refused = {
            Edit(1, group, 10, said, b"mine now"): "event_not_found",
            Delete(1, group, 11, said): "event_not_found",
            Edit(1, group, 12, elsewhere, b"x"): "event_not_found",
            React(1, group, 13, 1, b"+1"): "event_not_found",
            React(1, other, 14, elsewhere, b"+1"): "dialog_not_found",
            Remove(1, group, 15, ann.principal): "role_required",
            Add(1, group, 16, (stranger.principal,)): "role_required",  # type: ignore[arg-type]
            Promote(1, group, 17, bo.principal): "role_required",
            Leave(1, other, 18): "dialog_not_found",
            Mute(1, other, 19, 5): "dialog_not_found",
            Block(1, ids.new_id(), 20): "dialog_not_found",
        }
        codes = {command: (await wire.ask(command)).code for command in refused}
    assert codes == refused
    async with server.live(ann) as wire:
        assert (await wire.ask(Promote(1, group, 100, stranger.principal))).code == "not_member"
        assert (await wire.ask(Add(2, group, 101, [service.principal]))).code == "principal_not_found"
        assert (await wire.ask(Remove(3, group, 102, ann.principal))).code == "invalid_argument"


def forged(server: Running, person: Person) -> dict[str, str]:
    """Tokens that are not good, by what is wrong with them."""
    genuine = server.token(person)
    keys = server.tokens.keys
    claims = jwt.decode(genuine, options={"verify_signature": False})
    another = SigningKeys.from_pem(new_pem())
    yesterdays = Tokens(keys, ManualClock(), issuer="test", audience="test", ttl_s=60)
    head, body, signature = genuine.split(".")
    other_body = _signed(claims | {"sub": ids.to_text(ids.new_id())}, keys.signing, keys.kid).split(".")[1]
    return {
        "no algorithm": jwt.encode(claims, "", algorithm="none", headers={"kid": keys.kid}),
        "a secret in place of a key": jwt.encode(claims, "x" * 64, algorithm="HS256", headers={"kid": keys.kid}),
        "another key under our name": _signed(claims, another.signing, keys.kid),
        "a key that nobody knows": _signed(claims, another.signing, another.kid),
        "another person under our signature": f"{head}.{other_body}.{signature}",
        "no signature": f"{head}.{body}.",
        "another audience": _signed(claims | {"aud": "shop"}, keys.signing, keys.kid),
        "another issuer": _signed(claims | {"iss": "shop"}, keys.signing, keys.kid),
        "no end": _signed({name: claims[name] for name in claims if name != "exp"}, keys.signing, keys.kid),
        "expired": yesterdays.issue(tenant=1, principal=person.principal, device=person.device, sign_in=person.sign_in),
    }


def _signed(claims: dict[str, Any], key: Ed25519PrivateKey, kid: str) -> str:
    return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": kid})


async def test_a_token_that_is_not_good_closes_with_what_to_do(server: Running) -> None:
    ann = await server.world.person()
    answers = {}
    for name, token in forged(server, ann).items():
        async with server.connected() as wire:
            answers[name] = ((await wire.ask(Authenticate(1, token))).code, await wire.close_code())
    expired = answers.pop("expired")
    assert expired == ("token_expired", 4100)
    assert answers == dict.fromkeys(answers, ("token_invalid", 4102))


async def test_a_position_of_another_epoch_is_not_recovered(server: Running) -> None:
    """After a restore from a backup numbers may be reissued: what clients hold is invalid, also on open connections."""
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    async with server.live(bo) as wire:
        position = wire.position
    await server.world.pool.execute("UPDATE deployment SET epoch = epoch + 1")
    async with server.live(bo, position=position) as wire:
        synced, state = wire.caught_up[:2]
        assert isinstance(synced, Synced)
        assert isinstance(state, DialogState)
        assert (synced.recovered, state.dialog, state.first_seq) == (False, dialog, 1)
    await server.node.horizon.advance()
    async with server.live(bo, position=wire.position) as wire:
        fresh = wire.position
    async with server.live(bo, position=fresh) as wire:
        assert wire.caught_up == [Synced(2, recovered=True)]


async def test_of_many_connections_of_a_device_the_newest_stays(server: Running) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    async with contextlib.AsyncExitStack() as stack:
        wires = [await stack.enter_async_context(server.live(ann)) for _ in range(4)]
        assert [await wire.close_code() for wire in wires[:-1]] == [4300] * 3
        acked = await wires[-1].ask(Send(1, dialog, 10, b"still here"))
        assert isinstance(acked, Acked)
        assert len(server.node.registry.subscribers_of(ann.principal)) == 1


async def test_who_reads_a_byte_at_a_time_gets_everything(server: Running) -> None:
    ann, bo = await server.world.people(2)
    dialog = await server.world.create(DialogType.DIRECT, ann, bo)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.node.port)
    writer.write(
        b"GET /v1/ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: tchat.v1.msgpack\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    for command in (Authenticate(1, server.token(bo)), Sync(2)):
        writer.write(_masked(MSGPACK.encode(command)))
    async with server.live(ann) as wire:
        for n in range(10, 30):
            assert isinstance(await wire.ask(Send(n, dialog, n, bytes(200))), Acked)
    seqs: list[int] = []
    while 21 not in seqs:
        message = MSGPACK.decode_server(await _read_slowly(reader))
        if isinstance(message, TimelineEvent):
            seqs.append(message.seq)
    assert seqs == list(range(1, 22))
    writer.transport.abort()


def _masked(payload: bytes) -> bytes:
    """A client's frame, masked with zeros."""
    head = bytes([0x82, 0x80 | len(payload)]) if len(payload) < 126 else bytes([0x82, 0x80 | 126])
    return head + (len(payload).to_bytes(2, "big") if len(payload) >= 126 else b"") + bytes(4) + payload


async def _read_slowly(reader: asyncio.StreamReader) -> bytes:
    """The payload of the next frame, byte by byte."""
    _, size = [(await reader.readexactly(1))[0] for _ in range(2)]
    if size == 126:
        size = int.from_bytes([(await reader.readexactly(1))[0] for _ in range(2)], "big")
    return bytes([(await reader.readexactly(1))[0] for _ in range(size)])
