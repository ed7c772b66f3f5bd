"""What sealing costs in a large group: `python -m tests.adversity.sealed_group --members 1000`.

One device with a real `CryptoMachine` writes to a sealed group; each member has one device, to which it has a real
Olm channel. The server is `tchat serve` with the rates of the product, a process of its own on an embedded
PostgreSQL. So are strangers, who talk in direct dialogs at a steady pace, and those members who are online: they
confirm their keys as clients do. All of it shares this machine, so what members do with a message is part of what
strangers have beside them; with `--online 0` it is the upload alone.

Prints one JSON line. `seconds` and `bytes` of a message are from its making to its ack, uploads of slices included:
of the first one, of a later one, of one after an addition and of one after a removal, which is the median of all
rounds. `head_locked_ms` is the longest that a probe in PostgreSQL waited for the head of the group meanwhile.
`strangers_p99_ms`: in each round a quiet time is followed by a removal, and by a message that brings a new session to
all; the median of the rounds, the least and the greatest. `direct_per_cpu_s`: sealed direct messages that one device
makes in a second of CPU, its state in memory. It exits with 1 when the strangers' p99 beside a removal is above twice
the quiet one, or members lack keys (`unconfirmed`).
"""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from protocol.bodies import Header, Signed
from protocol.codec import MSGPACK
from protocol.commands import Add, Remove, Send
from protocol.dialog_types import DialogType, Mode
from protocol.ids import new_id, to_text
from protocol.limits import SLICES_PER_COMMAND_MAX
from protocol.replies import Acked, SlicesUploaded
from protocol.share_commands import Slice, UploadSlices
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.migrate import migrate
from tchat.encryption.key_inbox import CONFIRM_WITHIN_S
from tests.adversity.restart_server import NO_LIMITS, ROOT
from tests.adversity.sealed_node import MortalNode, serving
from tests.support.harness import Wire, live_on
from tests.support.sealing import give_keys
from tests.support.world import Person, World
from tests.tchat.crypto.devices import NOW_MS, VIEW, Phone, phone

_PAIRS = 8
_DELIVERED_S = 0.5
"""What the members do with a message is part of what strangers have beside them: so long after its ack."""
_SETTINGS = NO_LIMITS | {
    "TCHAT__SERVER__ADMIN_PORT": "0",
    "TCHAT__IDENTITY__WHO_MAY_ADD": "everybody",
    "TCHAT__SESSIONS__IDLE_TIMEOUT_S": "3600",
}
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

Span = tuple[float, float]


class Group:
    """A sealed group of so many, and one more who will be added: the first one writes, with real channels to all."""

    def __init__(self, world: World, dialog: bytes, people: Sequence[Person], phones: Sequence[Phone]) -> None:
        self.world = world
        self.dialog = dialog
        self.people = people
        self.phones = phones

    @classmethod
    async def found(cls, world: World, members: int) -> Group:
        """Make the people, their keys and channels, and the group."""
        phones = [phone() for _ in range(members)]
        people = [Person(each.known.principal, each.known.device) for each in phones]
        await world.pool.executemany(
            "INSERT INTO principals (principal_id, tenant_id, type, created_at_ms) VALUES ($1, 1, 1, 0)",
            [(each.principal,) for each in people],
        )
        for person in people:
            await world.pool.execute("INSERT INTO devices VALUES ($1, $2, 0)", person.device, person.principal)
            await world.another_sign_in(person)
            await give_keys(world, person)
        dialog = await world.create(DialogType.GROUP, *people[:-1], mode=Mode.SEALED)
        phones[0].connect(*phones[1:])
        return cls(world, dialog, people, phones)


class Author:
    """The device that writes to a group, and who reads."""

    def __init__(self, wire: Wire, group: Group) -> None:
        self.dialog = group.dialog
        self.readers = {each.known.principal: each for each in group.phones[1:-1]}
        self.keys_seq = 0
        self.uploaded: Span = (0.0, 0.0)
        """When the last message was uploaded, with its slices, in the machine's monotonic seconds."""
        self._wire, self._person, self._own = wire, group.people[0], group.phones[0]

    async def say(self) -> dict[str, float]:
        """Seal and send a message, its slices first; what it took."""
        began, sent = time.monotonic(), 0
        share = self._own.share(self.dialog, *self.readers.values(), keys_seq=self.keys_seq)
        made = [] if share is None else [each for chunk in self._own.machine.chunks_of(share) for each in chunk.slices]
        place = self._own.place(self.dialog, self._person.n(), keys_seq=self.keys_seq)
        sealed = self._own.seal(place, b"x" * 200)
        uploading = time.monotonic()
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
        self.uploaded = (uploading, time.monotonic())
        return {"seconds": round(time.monotonic() - began, 4), "bytes": sent + len(MSGPACK.encode(send))}

    async def add(self, other: Phone) -> None:
        """Add a member. The server does not check what is signed, but that it is."""
        signed = Signed(self.keys_seq, VIEW, bytes(64))
        await self._change(Add(11, self.dialog, self._person.n(), [other.known.principal], signed))
        self.readers[other.known.principal] = other

    async def remove_one(self) -> None:
        """Remove a member."""
        principal = next(iter(self.readers))
        await self._change(Remove(12, self.dialog, self._person.n(), principal))
        del self.readers[principal]

    async def _change(self, command: Add | Remove) -> None:
        acked = await self._wire.ask(command)
        assert isinstance(acked, Acked), acked
        self.keys_seq = acked.seq


async def talk(author: Author, last: Phone) -> dict[str, Any]:
    """The four messages that are measured; what each took."""
    said = {"first": await author.say(), "later": await author.say()}
    await author.add(last)
    said["after_addition"] = await author.say()
    await author.remove_one()
    return said | {"after_removal": await author.say()}


class Crowd:
    """People in a process of their own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def connected(cls, role: str, said: dict[str, Any]) -> AsyncIterator[Crowd]:
        """Start it, and go on when all are connected."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.adversity.sealed_group_crowd", role),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=ROOT,
            limit=2**26,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(said).encode() + b"\n")
            assert await process.stdout.readline() == b"ready\n", role
            yield cls(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def end(self) -> Any:
        """End it; what it saw."""
        told, _ = await self._process.communicate(b"")
        assert self._process.returncode == 0, self._process.returncode
        return json.loads(told)


class Strangers:
    """What the strangers saw in spans of time."""

    def __init__(self, acks: Sequence[Sequence[float]]) -> None:
        self._acks = acks

    def p99_ms(self, spans: Sequence[Span]) -> list[float]:
        """The 99th percentile of the acks in each span, the least first."""
        return sorted(self._p99_ms(*span) for span in spans)

    def _p99_ms(self, begin: float, end: float) -> float:
        took = sorted(ms for at, ms in self._acks if begin <= at <= end)
        return took[int(len(took) * 0.99)]


async def measure_group(
    url: str, folder: Path, members: int, *, online: int, rounds: int, quiet_s: float
) -> dict[str, Any]:
    """One group, of so many members once the last has been added; what its messages cost."""
    await migrate(url)
    async with serving(url, folder, _SETTINGS) as node, contextlib.AsyncExitStack() as stack:
        group = await Group.found(node.world, members)
        author = Author(await stack.enter_async_context(live_on(node.port, node.token(group.people[0]))), group)
        here = group.people[1:][-online:] if online else []
        there = {"port": node.port, "tokens": [node.token(each) for each in here]}
        await stack.enter_async_context(Crowd.connected("read", there))
        talkers = await stack.enter_async_context(Crowd.connected("talk", await _strangers(node)))
        said: dict[str, Any] = {"members": members, "online": len(here)}
        quiet: list[Span] = []
        beside: list[Span] = []

        async def run() -> None:
            said.update(await talk(author, group.phones[-1]))
            removals = [said["after_removal"]]
            for _ in range(rounds):
                await asyncio.sleep(CONFIRM_WITHIN_S + _DELIVERED_S)
                began = time.monotonic()
                await asyncio.sleep(quiet_s)
                quiet.append((began, time.monotonic()))
                await author.remove_one()
                removals.append(await author.say())
                await asyncio.sleep(_DELIVERED_S)
                beside.append((author.uploaded[0], time.monotonic()))
            said["after_removal"] = {key: statistics.median(each[key] for each in removals) for key in removals[0]}

        running = asyncio.ensure_future(run())
        said["head_locked_ms"] = await _probe(url, group.dialog, running)
        await running
        strangers = Strangers(await talkers.end())
        said["strangers_p99_ms"] = {
            "quiet": _spread(strangers.p99_ms(quiet)),
            "beside": _spread(strangers.p99_ms(beside)),
        }
        said["unconfirmed"] = await _count_unconfirmed(node.world, [each.device for each in here])
    return said | {"direct_per_cpu_s": _direct_per_cpu_s()}


async def _strangers(node: MortalNode) -> dict[str, Any]:
    people = await node.world.people(2 * _PAIRS)
    pairs = list(zip(people[::2], people[1::2], strict=True))
    dialogs = [await node.world.create(DialogType.DIRECT, *pair) for pair in pairs]
    return {
        "port": node.port,
        "tokens": [node.token(each) for each in people],
        "dialogs": [to_text(each) for each in dialogs],
    }


def _spread(ranked: Sequence[float]) -> dict[str, float]:
    return {"median": round(statistics.median(ranked), 2), "least": ranked[0], "greatest": ranked[-1]}


async def _count_unconfirmed(world: World, devices: Sequence[bytes]) -> int:
    """The slices that these devices have not confirmed, once there are none or after a while."""
    for _ in range(100):
        left: int = await world.pool.fetchval("SELECT count(*) FROM slices WHERE to_device = ANY ($1)", devices)
        if not left:
            break
        await asyncio.sleep(0.1)
    return left


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


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.sealed_group", description=__doc__)
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--online", type=int, default=100, help="how many of them are connected, at most")
    parser.add_argument(
        "--rounds", type=int, default=9, help="how often the strangers talk alone, then beside a removal"
    )
    parser.add_argument("--quiet-s", type=float, default=4.0, help="how long the strangers talk alone in each")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tchat-group-") as name, EmbeddedPostgres(Path(name), {}) as postgres:
        folder = Path(name)
        online, rounds, quiet_s = chosen.online, chosen.rounds, chosen.quiet_s
        measured = measure_group(postgres.url, folder, chosen.members, online=online, rounds=rounds, quiet_s=quiet_s)
        said = asyncio.run(measured)
    print(json.dumps(said))
    p99 = said["strangers_p99_ms"]
    return 1 if said["unconfirmed"] or p99["beside"]["median"] > 2 * p99["quiet"]["median"] else 0


if __name__ == "__main__":
    sys.exit(main())
