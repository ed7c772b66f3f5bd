"""What sealing costs in a large group: `python -m tests.adversity.sealed_group --members 1000`.

One device with a real `CryptoMachine` writes to a sealed group; each member has one device, to which it has a real Olm
channel. Server, PostgreSQL and clients run on this machine, server and clients in one process. Strangers talk in direct
dialogs at a steady pace before it (quiet) and beside it.

Prints one JSON line. `seconds` and `bytes` of a message are from its making to its ack, uploads of slices included: of
the first one, of a later one, of one after an addition and of one after a removal. `head_locked_ms` is the longest that
a probe in PostgreSQL waited for the head of the group meanwhile. `direct_per_cpu_s`: sealed direct messages that one
device makes in a second of CPU, its state in memory. It exits with 1 when the strangers' p99 beside it is above twice
the quiet one.
"""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg

from protocol.bodies import Header, MemberRemoved, MembersAdded
from protocol.codec import MSGPACK
from protocol.commands import Send
from protocol.dialog_types import DialogType, Mode
from protocol.ids import new_id
from protocol.limits import SLICES_PER_COMMAND_MAX
from protocol.replies import Acked, SlicesUploaded
from protocol.share_commands import Slice, UploadSlices
from server.config.settings import SessionSettings
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.migrate import migrate
from storage.rows import ChangeEntry, VerdictCode
from tests.support.harness import Running, Wire, configured, running
from tests.support.sealing import give_keys
from tests.support.world import Person
from tests.tchat.crypto.devices import NOW_MS, VIEW, Phone, phone

_STRANGERS = 4
_PACE_S = 0.05
_PROBE = """
DO $$
DECLARE
    v_at timestamptz;
    v_longest interval := '0';
BEGIN
    WHILE clock_timestamp() < '{until}'::timestamptz AND NOT (SELECT pg_try_advisory_lock(77)) LOOP
        v_at := clock_timestamp();
        PERFORM FROM heads WHERE dialog_id = '{dialog}' FOR NO KEY UPDATE;
        v_longest := greatest(v_longest, clock_timestamp() - v_at);
        COMMIT;
        PERFORM pg_sleep(0.001);
    END LOOP;
    PERFORM set_config('probe.longest_ms', (extract(epoch FROM v_longest) * 1000)::text, false);
END $$
"""


class Author:
    """The device that writes to the group, and who reads."""

    def __init__(self, server: Running, wire: Wire, person: Person, own: Phone, dialog: bytes) -> None:
        self.dialog = dialog
        self.readers: dict[bytes, Phone] = {}
        self.keys_seq = 0
        self._server, self._wire, self._person, self._own = server, wire, person, own

    async def say(self) -> dict[str, float]:
        """Seal and send a message, its slices first; what it took."""
        began, sent = time.perf_counter(), 0
        share = self._own.share(self.dialog, *self.readers.values(), keys_seq=self.keys_seq)
        made = [] if share is None else [each for chunk in self._own.machine.chunks_of(share) for each in chunk.slices]
        place = self._own.place(self.dialog, self._person.n(), keys_seq=self.keys_seq)
        sealed = self._own.seal(place, b"x" * 200)
        for start in range(0, len(made), SLICES_PER_COMMAND_MAX):
            part = [Slice(*each) for each in made[start : start + SLICES_PER_COMMAND_MAX]]
            more = start + SLICES_PER_COMMAND_MAX < len(made)
            assert share is not None
            upload = UploadSlices(9, share, self.dialog, sealed.session, self.keys_seq, part, more)
            sent += len(MSGPACK.encode(upload))
            answer = await self._wire.ask(upload)
            assert isinstance(answer, SlicesUploaded), answer
            assert answer.complete or more, answer
        header = Header(keys_seq=self.keys_seq, commitment=sealed.commitment, session=sealed.session, share=share)
        send = Send(10, self.dialog, place.n, sealed.payload, header)
        acked = await self._wire.ask(send)
        assert isinstance(acked, Acked), acked
        self._own.machine.acked(self.dialog, place.n, share)
        return {"seconds": round(time.perf_counter() - began, 4), "bytes": sent + len(MSGPACK.encode(send))}

    async def change(self, body: MembersAdded | MemberRemoved) -> None:
        """Change who reads, through the lanes of the server."""
        entry = ChangeEntry(self.dialog, self._person.principal, self._person.device, self._person.n(), body)
        verdict = await self._server.node.pipeline.append(entry)
        assert verdict.code is VerdictCode.OK, verdict
        self.keys_seq = verdict.seq


class Strangers:
    """People who write to each other at a steady pace; how long each ack took."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self._pairs: list[tuple[Wire, bytes]] = []
        self._n = 0

    async def arrive(self, stack: contextlib.AsyncExitStack) -> None:
        """Connect."""
        for _ in range(_STRANGERS):
            one, other = await self._server.world.people(2)
            dialog = await self._server.world.create(DialogType.DIRECT, one, other)
            self._pairs.append((await stack.enter_async_context(self._server.live(one)), dialog))
            await stack.enter_async_context(self._server.live(other))

    async def p99_ms(self, over: asyncio.Future[Any]) -> float:
        """Write until then; the 99th percentile of the acks."""
        took: list[float] = []

        async def write(wire: Wire, dialog: bytes) -> None:
            while not over.done():
                self._n += 1
                began = time.perf_counter()
                await wire.ask(Send(1, dialog, 1_000_000 + self._n, b"x" * 100))
                took.append((time.perf_counter() - began) * 1000)
                await asyncio.sleep(_PACE_S)

        await asyncio.gather(*(write(*pair) for pair in self._pairs))
        return sorted(took)[int(len(took) * 0.99)]


async def measure_group(url: str, members: int, quiet_s: float) -> dict[str, Any]:
    """One group, of so many members once the last has been added; what its messages cost."""
    settings = configured(
        sessions=SessionSettings(commands_per_s=10_000, commands_burst=10_000, sends_per_s=1000, sends_burst=1000),
    )
    async with running(url, settings) as server, contextlib.AsyncExitStack() as stack:
        world = server.world
        own, phones = phone(), [phone() for _ in range(members - 1)]
        people = [Person(each.known.principal, each.known.device) for each in (own, *phones)]
        await world.pool.executemany(
            "INSERT INTO principals (principal_id, tenant_id, type, created_at_ms) VALUES ($1, 1, 1, 0)",
            [(each.principal,) for each in people],
        )
        for person in people:
            await world.pool.execute("INSERT INTO devices VALUES ($1, $2, 0)", person.device, person.principal)
            await world.another_sign_in(person)
            await give_keys(world, person)
        ann, *others = people
        dialog = await world.create(DialogType.GROUP, ann, *others[:-1], mode=Mode.SEALED)
        own.connect(*phones)
        author = Author(server, await stack.enter_async_context(server.live(ann)), ann, own, dialog)
        author.readers = {each.known.principal: each for each in phones[:-1]}
        strangers = Strangers(server)
        await strangers.arrive(stack)
        quiet = await strangers.p99_ms(asyncio.ensure_future(asyncio.sleep(quiet_s)))
        said: dict[str, Any] = {"members": members}

        async def talk() -> None:
            said["first"] = await author.say()
            said["later"] = await author.say()
            newcomer = phones[-1].known.principal
            await author.change(MembersAdded([newcomer]))
            author.readers[newcomer] = phones[-1]
            said["after_addition"] = await author.say()
            gone = others[0].principal
            await author.change(MemberRemoved(gone))
            del author.readers[gone]
            said["after_removal"] = await author.say()

        talking = asyncio.ensure_future(talk())
        said["head_locked_ms"], beside = await asyncio.gather(_probe(url, dialog, talking), strangers.p99_ms(talking))
        await talking
        said["strangers_p99_ms"] = {"quiet": round(quiet, 2), "beside": round(beside, 2)}
        return said | {"direct_per_cpu_s": _direct_per_cpu_s()}


async def _probe(url: str, dialog: bytes, over: asyncio.Future[None]) -> float:
    """The longest wait for the head of a dialog, in milliseconds, measured by PostgreSQL itself."""
    probing, stopping = [await asyncpg.connect(url) for _ in range(2)]
    try:
        await probing.execute("SELECT set_config('probe.longest_ms', '0', false)")
        until = await probing.fetchval("SELECT (clock_timestamp() + interval '10 minutes')::text")
        await stopping.execute("SELECT pg_advisory_lock(77)")
        waiting = asyncio.ensure_future(probing.execute(_PROBE.format(until=until, dialog=dialog.hex())))
        await asyncio.wait([over])
        await stopping.execute("SELECT pg_advisory_unlock(77)")
        await waiting
        return round(float(await probing.fetchval("SELECT current_setting('probe.longest_ms')")), 2)
    finally:
        for connection in (probing, stopping):
            connection.terminate()


def _direct_per_cpu_s(messages: int = 300) -> int:
    ann, bo, dialog = phone(), phone(), new_id()
    ann.introduce(dialog, bo)
    began = time.process_time()
    for n in range(messages):
        if n % 100 == 0:  # as often as its session ends
            dialog = new_id()
            ann.share(dialog, bo)
        ann.machine.share(dialog, [bo.known], keys_seq=1, view=VIEW, now_ms=NOW_MS)
        ann.seal(ann.place(dialog, n + 1), b"x" * 200)
    return round(messages / (time.process_time() - began))


async def _run(url: str, members: int, quiet_s: float) -> dict[str, Any]:
    await migrate(url)
    return await measure_group(url, members, quiet_s)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.sealed_group", description=__doc__)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--quiet-s", type=float, default=10.0, help="how long the strangers talk alone")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tchat-group-") as folder, EmbeddedPostgres(Path(folder), {}) as postgres:
        said = asyncio.run(_run(postgres.url, chosen.members, chosen.quiet_s))
    print(json.dumps(said))
    p99 = said["strangers_p99_ms"]
    return 1 if p99["beside"] > 2 * p99["quiet"] else 0


if __name__ == "__main__":
    sys.exit(main())
