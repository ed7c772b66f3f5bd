"""Attacks by people who have signed in, from their own devices, at more than the allowed rates."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from loadtest.lean_client import Address, LeanClient, masked
from protocol.codec import MSGPACK
from protocol.command_rules import Command
from protocol.commands import (
    Add,
    Authenticate,
    Create,
    Heartbeat,
    HighWaterMark,
    History,
    Invite,
    PresenceSubscribe,
    React,
    Receipt,
    Send,
    Sync,
    Typing,
)
from protocol.dialog_types import DialogType, Mode
from protocol.ids import created_dialog_id, direct_dialog_id, new_id
from protocol.replies import Acked
from server.config.settings import RateSettings, SessionSettings
from tests.adversity.attacks_wire import Attacker, binary

_ACKED = Acked.__struct_config__.tag
_BATCH = 50
_ADD, _INVITE = 2, 3
_INVITATIONS_MAX = RateSettings().additions_per_person_per_day
_SETTINGS = SessionSettings()

MakeCommand = Callable[[LeanClient, int], Command]


async def sends_after_reconnects(attacker: Attacker) -> None:
    """A device that reconnects for each burst; the goal is to send more than its rate."""
    await _outpace(attacker, devices=1)


async def sends_of_many_devices(attacker: Attacker) -> None:
    """Twenty devices of one person; the goal is to send more than three times the rate of one."""
    await _outpace(attacker, devices=20)


async def _outpace(attacker: Attacker, devices: int) -> None:
    acked = 0
    began = time.monotonic()
    people = [LeanClient(attacker.target.tokens[0], lambda _: None) for _ in range(devices)]

    def count(_: LeanClient, message: bytes) -> None:
        nonlocal acked
        acked += message[1] == _ACKED

    async def burst(client: LeanClient) -> None:
        await client.connect(Address("127.0.0.1", attacker.target.port), attacker.address())
        try:
            dialog = direct_dialog_id(client.principal, attacker.target.strangers[0])
            await client.ask(
                Create(1, client.next_n(), DialogType.DIRECT, [attacker.target.strangers[0]], mode=Mode.OPEN)
            )
            client.receiver = count
            for _ in range(150):
                client.send(Send(1, dialog, client.next_n(), bytes(100)))
            attacker.requests += 150
            await asyncio.sleep(0.3)
        finally:
            await client.disconnect()

    async def act() -> None:
        await asyncio.gather(*(burst(client) for client in people), return_exceptions=True)

    await attacker.repeat(1, act)
    factor = 1 if devices == 1 else 3
    allowed = factor * (_SETTINGS.sends_burst + _SETTINGS.sends_per_s * (time.monotonic() - began))
    if acked > 1.2 * allowed:
        attacker.reached = f"{acked} sends acked, {allowed:.0f} allowed"


async def dialogs_with_strangers(attacker: Attacker) -> None:
    """Groups and channels with people who do not know the attacker; the goal is to put them into one."""
    kinds = (DialogType.GROUP, DialogType.CHANNEL)
    made = 0

    def count(_: LeanClient, message: bytes) -> None:
        nonlocal made
        made += message[1] == _ACKED

    async def act() -> None:
        async with attacker.signed_in() as client:
            client.receiver = count
            for _ in range(100):
                others = attacker.rng.sample(attacker.target.strangers, 2)
                client.send(Create(1, client.next_n(), attacker.rng.choice(kinds), others, "spam"))
            attacker.requests += 100
            await asyncio.sleep(0.3)

    await attacker.repeat(2, act)
    if made:
        attacker.reached = f"strangers were put into {made} dialogs"


async def additions(attacker: Attacker) -> None:
    """Strangers, added to a channel and invited to it; the goal is more than a day allows."""
    added: set[int] = set()
    invited = 0

    def count(_: LeanClient, message: bytes) -> None:
        nonlocal invited
        reply = MSGPACK.decode_server(message)
        if isinstance(reply, Acked):
            added.update({reply.id} & {_ADD})
            invited += reply.id == _INVITE

    async def act() -> None:
        async with attacker.signed_in() as client:
            n = client.next_n()
            await client.ask(Create(1, n, DialogType.CHANNEL, [], "spam"))
            dialog = created_dialog_id(client.device, n)
            client.receiver = count
            for _ in range(50):
                stranger = attacker.rng.choice(attacker.target.strangers)
                client.send(Add(_ADD, dialog, client.next_n(), [stranger]))
                client.send(Invite(_INVITE, dialog, client.next_n(), stranger))
            attacker.requests += 100
            await asyncio.sleep(0.3)

    await attacker.repeat(2, act)
    if added:
        attacker.reached = "a stranger was added to a channel"
    elif invited > _INVITATIONS_MAX * len(attacker.target.tokens):
        attacker.reached = f"strangers were invited {invited} times"


async def _flood(attacker: Attacker, make: MakeCommand, *, devices: int = 4, read: bool = True) -> None:
    """Devices that send commands as fast as the server reads them."""

    async def act() -> None:
        async with attacker.signed_in() as client:
            peer = attacker.target.strangers[0]
            await client.ask(Create(1, client.next_n(), DialogType.DIRECT, [peer], mode=Mode.OPEN))
            if not read:
                client.transport.pause_reading()
            for number in range(10**9):
                data = b"".join(masked(MSGPACK.encode(make(client, _BATCH * number + k))) for k in range(_BATCH))
                client.transport.write(data)
                attacker.sent += len(data)
                attacker.requests += _BATCH
                while client.transport.get_write_buffer_size() or client.transport.is_closing():
                    if client.transport.is_closing():
                        return
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0)

    await attacker.repeat(devices, act)


def _dialog(client: LeanClient, attacker: Attacker) -> bytes:
    return direct_dialog_id(client.principal, attacker.target.strangers[0])


async def sends(attacker: Attacker) -> None:
    """Messages."""
    await _flood(attacker, lambda client, _: Send(1, _dialog(client, attacker), client.next_n(), bytes(1000)))


async def big_sends(attacker: Attacker) -> None:
    """Messages of the largest size."""
    await _flood(attacker, lambda client, _: Send(1, _dialog(client, attacker), client.next_n(), bytes(60_000)))


async def typings(attacker: Attacker) -> None:
    """Signs of writing."""
    await _flood(attacker, lambda client, _: Typing(0, _dialog(client, attacker)))


async def receipts(attacker: Attacker) -> None:
    """Receipts, most of them for dialogs that do not exist."""
    await _flood(
        attacker, lambda client, k: Receipt(0, HighWaterMark(new_id() if k % 2 else _dialog(client, attacker)))
    )


async def reactions(attacker: Attacker) -> None:
    """Reactions to one message."""
    await _flood(attacker, lambda client, _: React(1, _dialog(client, attacker), client.next_n(), 2, b"+"))


async def presences(attacker: Attacker) -> None:
    """Subscriptions to the presence of five hundred people."""
    people = (attacker.target.strangers * 500)[:500]
    await _flood(attacker, lambda _client, _k: PresenceSubscribe(1, people))


async def histories(attacker: Attacker) -> None:
    """The largest pages of history, unread."""
    await _flood(attacker, lambda client, _: History(1, _dialog(client, attacker), 1, 2**53 - 1, 200), read=False)


async def heartbeats(attacker: Attacker) -> None:
    """Heartbeats, unread."""
    await _flood(attacker, lambda _client, _k: Heartbeat(1), read=False)


async def nonsense(attacker: Attacker) -> None:
    """Commands that no handler takes: another sync, and unknown dialogs."""
    await _flood(attacker, lambda _client, k: Sync(1) if k % 2 else History(1, new_id()), read=False)


async def syncs(attacker: Attacker) -> None:
    """Connects with positions that are forged or old."""
    forged = ["", "x" * 200, "1.1", "AAAA" * 30, "1:1:1"]

    async def act() -> None:
        client = LeanClient(attacker.rng.choice(attacker.target.tokens), lambda _: None)
        client.position = attacker.rng.choice(forged)
        await client.connect(Address("127.0.0.1", attacker.target.port), attacker.address())
        attacker.requests += 1
        await client.disconnect()

    await attacker.repeat(8, act)


async def connections_that_never_sync(attacker: Attacker) -> None:
    """One device that authenticates on many connections, and sends more than its rate on each before it syncs."""
    authenticate = binary(MSGPACK.encode(Authenticate(1, attacker.target.tokens[0], new_id())))
    big = binary(MSGPACK.encode(Send(1, new_id(), 1, bytes(60_000))))

    async def act() -> None:
        async with attacker.upgraded() as raw:
            await raw.send(authenticate)
            await raw.reader.readexactly(2)  # the answer begins: it is no stranger any more
            await raw.send(big * 8)
            await raw.read_all()

    await attacker.repeat(400, act)


async def many_creations(attacker: Attacker) -> None:
    """Dialogs of the attacker's own people, one after the other."""

    def make(client: LeanClient, _: int) -> Command:
        return Create(1, client.next_n(), DialogType.CHANNEL, [], "mine")

    await _flood(attacker, make)


async def the_worst_dialog(attacker: Attacker) -> None:
    """History, over and over, of a message with as many reactions as the rate allows."""

    async def act() -> None:
        async with attacker.signed_in() as client:
            n = client.next_n()
            await client.ask(Create(1, n, DialogType.CHANNEL, [], "worst"))
            dialog = created_dialog_id(client.device, n)
            client.send(Send(1, dialog, client.next_n(), bytes(60_000)))
            for _ in range(90):
                client.send(React(1, dialog, client.next_n(), 2, bytes(1000)))
            while attacker.left_s > 0:
                await client.ask(History(2, dialog, 1, 2**53 - 1, 200))
                attacker.requests += 1

    await attacker.repeat(4, act)


MEMBERS = (
    sends_after_reconnects,
    sends_of_many_devices,
    dialogs_with_strangers,
    additions,
    sends,
    big_sends,
    typings,
    receipts,
    reactions,
    presences,
    histories,
    heartbeats,
    nonsense,
    syncs,
    connections_that_never_sync,
    many_creations,
    the_worst_dialog,
)
