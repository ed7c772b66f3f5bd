"""One person misuses the worst dialog that can be built, at the full rate allowed, beside strangers who talk.

The worst dialog: a channel with as many members as may be, a message with very many reactions, long history; its owner
is in as many dialogs as a person may be. The owner's devices ask for the worst pages, react, edit, delete and send,
leave and join, and reconnect without a position. Quiet times and times of misuse take turns, so that what else happens
on the machine disturbs both. The misuse runs in a process of its own, of the lowest priority, as if it came from
another machine: what is to be seen is the work of the server.
"""

# ruff: noqa: T201 - a command prints

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

from protocol.bodies import Settings, TimelineEvent
from protocol.codec import JSON, MSGPACK, Codec
from protocol.command_rules import Command
from protocol.commands import Add, Authenticate, Create, Delete, Edit, History, Leave, React, Roster, Send, Sync
from protocol.dialog_types import DialogType, Mode
from protocol.events import CaughtUp
from protocol.ids import NIL, new_id
from tests.adversity.growth_stage import CAPS, TARGET
from tests.adversity.restart_server import ROOT, Accounts, ServerProcess, SignIn
from tests.support.filling import add_dialogs, add_members, add_messages, add_reactions
from tests.support.harness import Wire
from tests.support.world import Person

HELD_RATIO_MAX = 2.0
PAIRS = 4
TURNS = 4
"""Quiet times, and as many of misuse."""
_SEND_EVERY_S = 0.06
_OUTSTANDING_MAX = 8


class Place:
    """The server on `port`, and connections to it."""

    def __init__(self, port: int) -> None:
        self._port = port

    @contextlib.asynccontextmanager
    async def socket(self, sign_in: SignIn, codec: Codec) -> AsyncIterator[ClientConnection]:
        """A websocket that has asked to authenticate."""
        async with connect(
            f"ws://127.0.0.1:{self._port}/v1/ws",
            subprotocols=[Subprotocol(codec.subprotocol)],
            compression=None,
            max_queue=None,
            max_size=None,
            close_timeout=0.1,
        ) as socket:
            await socket.send(codec.encode(Authenticate(1, sign_in.token)), text=codec.text)
            yield socket

    @contextlib.asynccontextmanager
    async def live(self, sign_in: SignIn) -> AsyncIterator[Wire]:
        """A websocket that is caught up."""
        async with self.socket(sign_in, MSGPACK) as socket:
            wire = Wire(socket, MSGPACK)
            await wire.send(Sync(2))
            await wire.until(CaughtUp)
            yield wire


class Pair:
    """Two strangers to the misuse, one of whom writes to the other."""

    def __init__(self, writer: Wire, reader: Wire, dialog: bytes) -> None:
        self._writer = writer
        self._reader = reader
        self._dialog = dialog
        self._numbers = itertools.count(10)

    async def talk(self, seconds: float) -> list[float]:
        """Milliseconds from each send to its arrival."""
        began = time.monotonic()
        sent: dict[int, float] = {}
        took: list[float] = []
        while time.monotonic() - began < seconds:
            n = next(self._numbers)
            sent[n] = time.monotonic()
            await self._writer.send(Send(n, self._dialog, n, b"hello"))
            while (await self._reader.until(TimelineEvent)).n != n:
                pass
            took.append((time.monotonic() - sent.pop(n)) * 1000)
            await asyncio.sleep(_SEND_EVERY_S)
        return took


class Device:
    """A device of the misuser that is caught up, reads all it gets, and keeps a few commands ahead of the answers."""

    def __init__(self, socket: ClientConnection, codec: Codec, make: Callable[[int], Command]) -> None:
        self._socket = socket
        self._codec = codec
        self._make = make
        self._numbers = itertools.count(1_000_000)
        self._ahead = asyncio.Semaphore(_OUTSTANDING_MAX)
        self.answers = 0

    async def catch_up(self) -> None:
        """Sync, and read up to the last message of it."""
        await self._socket.send(self._codec.encode(Sync(2)), text=self._codec.text)
        while not isinstance(self._codec.decode_server(await self._socket.recv(decode=False)), CaughtUp):
            pass

    async def read(self) -> None:
        """Read without a look at it, until cancelled."""
        while True:
            await self._socket.recv(decode=False)
            self.answers += 1
            self._ahead.release()

    async def ask(self) -> None:
        """Ask as fast as the server answers, until cancelled."""
        for n in self._numbers:
            await self._ahead.acquire()
            await self._socket.send(self._codec.encode(self._make(n)), text=self._codec.text)


class Misuser:
    """One person's devices."""

    def __init__(self, place: Place, devices: list[SignIn], dialog: bytes) -> None:
        self._place = place
        self._sign_ins = devices
        self._dialog = dialog
        self._devices: list[Device] = []
        self.reconnects = 0

    @property
    def answers(self) -> int:
        """Messages that the server sent to the devices that stay connected."""
        return sum(device.answers for device in self._devices)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """All devices but the one that reconnects, caught up."""
        commands: list[tuple[Codec, Callable[[int], Command]]] = [
            (JSON, lambda n: History(n, self._dialog, TARGET, TARGET + 199, 200)),
            (MSGPACK, lambda n: History(n, self._dialog, limit=200)),
            (MSGPACK, self._write),
            (MSGPACK, self._come_and_go),
        ]
        async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as group:
            for sign_in, (codec, make) in zip(self._sign_ins, commands, strict=False):
                socket = await stack.enter_async_context(self._place.socket(sign_in, codec))
                self._devices.append(Device(socket, codec, make))
                began = time.monotonic()
                await self._devices[-1].catch_up()
                print(f"a device caught up in {time.monotonic() - began:.1f} s", file=sys.stderr, flush=True)
            reading = [group.create_task(device.read()) for device in self._devices]
            yield
            for task in reading:
                task.cancel()

    async def misuse(self, seconds: float) -> None:
        """All of it at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(device.ask() for device in self._devices), self._reconnect(self._sign_ins[4]))

    def _write(self, n: int) -> Command:
        dialog = self._dialog
        return (
            React(n, dialog, n, TARGET, b"+"),
            Edit(n, dialog, n, TARGET, b"edited"),
            Send(n, dialog, n, b"hello"),
            Delete(n, dialog, n, n % 1000 + 10),
        )[n % 4]

    def _come_and_go(self, n: int) -> Command:
        return (
            Roster(n, self._dialog, NIL, 500),
            Leave(n, self._dialog, n),
            Add(n, self._dialog, n, [self._sign_ins[0].principal]),
        )[n % 3]

    async def _reconnect(self, sign_in: SignIn) -> None:
        """Sync without a position, cut after the first messages, again."""
        while True:
            with contextlib.suppress(WebSocketException, OSError):
                async with self._place.socket(sign_in, MSGPACK) as socket:
                    await socket.send(MSGPACK.encode(Sync(2)))
                    for _ in range(3):
                        await socket.recv(decode=False)
                    self.reconnects += 1


class Assignment(msgspec.Struct):
    """What the process of the misuse is given."""

    port: int
    devices: list[SignIn]
    dialog: bytes


class Process:
    """The process of the misuse: a number of seconds on its input starts it, a line of JSON says what it did so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, assignment: Assignment) -> AsyncIterator[Process]:
        """The process, when all its devices are caught up."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.adversity.growth_abuse", msgspec.json.encode(assignment).decode()),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            it = cls(process)
            await it._answer()
            yield it
        finally:
            process.kill()
            await process.wait()

    async def misuse(self, seconds: float) -> dict[str, int]:
        """Misuse for so long; what was done since the start."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n".encode())
        return await self._answer()

    async def _answer(self) -> dict[str, int]:
        assert self._process.stdout is not None
        did: dict[str, int] = msgspec.json.decode(await self._process.stdout.readline())
        return did


async def _misuse_on_demand(assignment: Assignment) -> None:
    os.nice(19)
    misuser = Misuser(Place(assignment.port), assignment.devices, assignment.dialog)
    async with misuser.connected():
        while True:
            did = {"answers": misuser.answers, "reconnects": misuser.reconnects}
            print(msgspec.json.encode(did).decode(), flush=True)
            line = await asyncio.to_thread(sys.stdin.readline)
            if not line:
                return
            await misuser.misuse(float(line))


async def _worst_dialog(place: Place, database: str, owner: SignIn, size: int) -> bytes:
    async with place.live(owner) as wire:
        created = await wire.ask(Create(3, 1, DialogType.CHANNEL, [], "worst", settings=Settings(is_public=True)))
        await wire.ask(Send(4, created.dialog, 2, b"hello"))
    person = Person(owner.principal, owner.device)
    connection = await asyncpg.connect(database)
    try:
        await connection.set_builtin_type_codec("uuid", schema="pg_catalog", codec_name="bytea", format="binary")
        await add_messages(connection, created.dialog, person, size)
        await add_reactions(connection, created.dialog, [new_id() for _ in range(1000)], TARGET, size)
        await add_members(connection, created.dialog, min(size, CAPS["members"]))
        await add_dialogs(connection, person, min(size, CAPS["dialogs"]))
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()
    return bytes(created.dialog)


def _p99(took: list[float]) -> float:
    return round(statistics.quantiles(took, n=100)[98], 2)


async def compare_strangers(folder: Path, size: int, seconds: float) -> dict[str, Any]:
    """The line about strangers; `size` rows and reactions, each half for `seconds`."""
    folder = folder / "strangers"
    folder.mkdir()
    server = ServerProcess(folder, {"TCHAT__SESSIONS__IDLE_TIMEOUT_S": "3600"})  # nobody here sends heartbeats
    await server.start()
    try:
        place, accounts = Place(server.port), Accounts(server)
        devices = [await accounts.sign_in("misuser") for _ in range(5)]
        dialog = await _worst_dialog(place, server.database.url, devices[0], size)
        async with contextlib.AsyncExitStack() as stack:
            pairs = []
            for number in range(PAIRS):
                ann, bo = await accounts.sign_in(f"a{number}"), await accounts.sign_in(f"b{number}")
                writer = await stack.enter_async_context(place.live(ann))
                reader = await stack.enter_async_context(place.live(bo))
                created = await writer.ask(Create(3, 1, DialogType.DIRECT, [bo.principal], mode=Mode.OPEN))
                pairs.append(Pair(writer, reader, created.dialog))
            misuser = await stack.enter_async_context(Process.started(Assignment(server.port, devices, dialog)))
            did: dict[str, int] = {}
            took: dict[bool, list[float]] = {False: [], True: []}
            for turn in range(2 * TURNS):
                misused = turn % 2 == 1
                misusing = asyncio.ensure_future(misuser.misuse(seconds / TURNS)) if misused else None
                for part in await asyncio.gather(*(pair.talk(seconds / TURNS) for pair in pairs)):
                    took[misused] += part
                did = await misusing if misusing else did
        quiet, misused_p99 = _p99(took[False]), _p99(took[True])
        return {
            "strangers": len(took[True]),
            "quiet_p50_ms": round(statistics.median(took[False]), 2),
            "quiet_p99_ms": quiet,
            "misuse_p50_ms": round(statistics.median(took[True]), 2),
            "misuse_p99_ms": misused_p99,
            "ratio": round(misused_p99 / quiet, 2),
            **did,
            "held": misused_p99 <= HELD_RATIO_MAX * quiet,
        }
    finally:
        await server.stop()


if __name__ == "__main__":
    asyncio.run(_misuse_on_demand(msgspec.json.decode(sys.argv[1], type=Assignment)))
