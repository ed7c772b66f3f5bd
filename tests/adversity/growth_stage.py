"""Dialogs and people of every size in one database, and the operations whose cost is compared between them.

An operation is what a node asks of the store for one command. It runs over one connection; its cost is the blocks of
tables and indexes that it touches, which is free of noise, and its time. All sizes are in one database, so that the
tables, and the depth of their indexes, are the same for all: what differs is the size that is looked at.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from protocol import bodies
from protocol.dialog_types import DIALOG_TYPES, DialogType
from protocol.ids import NIL, new_id
from protocol.kinds import Kind
from protocol.limits import STATE_MEMBERS_MAX
from server.config.settings import RateSettings, SyncSettings
from storage.postgres.pool import open_pool
from storage.rows import ChangeEntry, SnapshotPage, VerdictCode
from tests.support.filling import add_dialogs, add_members, add_messages, add_reactions, count_blocks
from tests.support.world import Person, World, edit, encode, message, reaction

HELD_RATIO_MAX = 1.5
TARGET = 2
"""The message of a dialog that is edited, deleted, reacted to and read: its first."""
_ROUND_DIALOGS = 50
_STORED_MESSAGE = encode(bodies.Posted(Kind.MESSAGE, bodies.Header(), b"hello"))
_AS_BEFORE = "UPDATE journal SET tag = 1, body = $2 WHERE dialog_id = $1 AND seq = 2 AND tag = 5"

BOUNDS = {
    ("reconnect", "dialogs"): "pages of 200 memberships, 2 s in all, then a windowed snapshot; dialogs of one person",
    ("roster", "members"): "members_max of the type; read once, then changed by events",
}
"""What stops an operation that grows with a dimension."""
_ROOM = 1_000
"""Members and dialogs that a subject may get while it is measured."""
CAPS = {
    "members": DIALOG_TYPES[DialogType.CHANNEL].members_max - _ROOM,
    "dialogs": RateSettings().dialogs_per_person_max - _ROOM,
}
"""The largest size of a dimension that the server allows."""


@dataclass
class Subject:
    """A person, a dialog of theirs, and the size of one thing in it."""

    dimension: str
    size: int
    person: Person
    dialog: bytes
    costs: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    """By operation, milliseconds and blocks of each time."""

    def median(self, operation: str) -> tuple[float, float]:
        """Milliseconds and blocks."""
        ms, blocks = zip(*self.costs[operation], strict=True)
        return statistics.median(ms), statistics.median(blocks)


class Stage:
    """A filled database and its subjects."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._blocks = 0
        self.subjects: list[Subject] = []

    @classmethod
    async def open(cls, url: str) -> Stage:
        """A stage on a migrated database of its own."""
        world = World(await open_pool(url, size=1, statement_timeout_s=600.0))
        for (table,) in await world.pool.fetch("SELECT relname FROM pg_stat_user_tables"):
            await world.pool.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
        world.incarnation = await world.journal.begin_incarnation("growth")
        return cls(world)

    def close(self) -> None:
        """Close the connection."""
        self._world.pool.terminate()

    async def add(self, dimension: str, size: int) -> None:
        """A subject in which that many rows, reactions, members or dialogs are."""
        world, pool = self._world, self._world.pool
        person = await world.person()
        dialog = await world.create(DialogType.CHANNEL, person, public=True)
        await world.say(dialog, person)
        if dimension == "rows":
            await add_messages(pool, dialog, person, size)
        elif dimension == "reactions":
            await add_reactions(pool, dialog, [new_id() for _ in range(1000)], TARGET, size)
        elif dimension == "members":
            await add_members(pool, dialog, size)
        else:
            await add_dialogs(pool, person, size)
        self.subjects.append(Subject(dimension, size, person, dialog))

    async def measure(self, times: int) -> None:
        """Do every operation on every subject so many times, by turns: what disturbs one disturbs all."""
        for operation, do in OPERATIONS.items():
            for turn in range(times + 2):
                for subject in self.subjects:
                    cost = await do(self, subject)
                    if turn >= 2:  # the first calls make the plans and warm the pages
                        subject.costs.setdefault(operation, []).append(cost)

    async def _cost_of(self, work: Callable[[], Awaitable[Any]]) -> tuple[float, int]:
        before = await count_blocks(self._world.pool)
        began = time.perf_counter()
        await work()
        ms = (time.perf_counter() - began) * 1000
        return ms, await count_blocks(self._world.pool) - before

    async def _change(self, on: Subject, author: Person, body: bodies.Body) -> None:
        changed = await self._world.change(ChangeEntry(on.dialog, author.principal, author.device, author.n(), body))
        assert changed.verdict.code is VerdictCode.OK, changed

    # -- the operations

    async def send(self, on: Subject) -> tuple[float, int]:
        return await self._cost_of(lambda: self._world.flush(message(on.dialog, on.person)))

    async def edit(self, on: Subject) -> tuple[float, int]:
        return await self._cost_of(lambda: self._world.flush(edit(on.dialog, on.person, TARGET)))

    async def react(self, on: Subject) -> tuple[float, int]:
        return await self._cost_of(lambda: self._world.flush(reaction(on.dialog, on.person, TARGET)))

    async def delete(self, on: Subject) -> tuple[float, int]:
        cost = await self._cost_of(lambda: self._change(on, on.person, bodies.Deleted(TARGET)))
        await self._world.pool.execute(_AS_BEFORE, on.dialog, _STORED_MESSAGE)
        await self._world.pool.execute("DELETE FROM erasures")
        return cost

    async def history(self, on: Subject) -> tuple[float, int]:
        async def read() -> None:
            reads, me, dialog = self._world.timelines, on.person.principal, on.dialog
            await reads.read_dialogs(me, [dialog])
            page = await reads.read_newest(me, dialog, TARGET, TARGET + 49, limit=51)
            await reads.read_later(me, dialog, page[0].seq, page[-1].seq, newest_first=True)

        return await self._cost_of(read)

    async def sync(self, on: Subject) -> tuple[float, int]:
        return await self._cost_of(lambda: self._resume(on, None))

    async def reconnect(self, on: Subject) -> tuple[float, int]:
        ((since,),) = await self._world.pool.fetch("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
        await self._world.say(on.dialog, on.person)
        return await self._cost_of(lambda: self._resume(on, since))

    async def _resume(self, on: Subject, since: int | None) -> None:
        """Up to the first events: the rest comes as the client reads."""
        limits, reads, me = SyncSettings(), self._world.timelines, on.person.principal
        snapshot = await reads.take_snapshot(
            me, on.person.sign_in, since, window=limits.window_events, events_max=limits.events_max
        )
        await self._first_round(me, snapshot.page)

    async def _first_round(self, me: bytes, page: SnapshotPage) -> None:
        rows = page.dialogs[:_ROUND_DIALOGS]
        small = [row.state.dialog for row in rows if row.state.member_count <= STATE_MEMBERS_MAX]
        if small:
            await self._world.timelines.read_members(me, small, after=NIL, limit=STATE_MEMBERS_MAX)
        ranges = [(row.state.dialog, row.unseen_from, row.head_seq) for row in rows]
        if ranges:
            await self._world.timelines.read_events(me, ranges, limit=SyncSettings().page_events)

    async def join(self, on: Subject) -> tuple[float, int]:
        guest = await self._world.person()
        return await self._cost_of(lambda: self._change(on, guest, bodies.MembersAdded([guest.principal])))

    async def leave(self, on: Subject) -> tuple[float, int]:
        """The last admin leaves: one member becomes admin, the one who has been there longest."""
        guest = await self._world.person()
        await self._change(on, guest, bodies.MembersAdded([guest.principal]))
        await self._change(on, on.person, bodies.Promoted(guest.principal))
        await self._change(on, on.person, bodies.Demoted(on.person.principal))
        return await self._cost_of(lambda: self._change(on, guest, bodies.MemberLeft()))

    async def roster(self, on: Subject) -> tuple[float, int]:
        return await self._cost_of(lambda: self._world.timelines.read_roster(on.dialog))


OPERATIONS: dict[str, Callable[[Stage, Subject], Awaitable[tuple[float, int]]]] = {
    operation.__name__: operation
    for operation in (
        Stage.send,
        Stage.edit,
        Stage.react,
        Stage.history,
        Stage.sync,
        Stage.reconnect,
        Stage.join,
        Stage.leave,
        Stage.roster,
        Stage.delete,
    )
}


def compare(subjects: list[Subject]) -> Iterator[dict[str, Any]]:
    """One line for each operation, dimension and size, against the smallest size."""
    for operation in OPERATIONS:
        for dimension in dict.fromkeys(subject.dimension for subject in subjects):
            of_it = sorted((each for each in subjects if each.dimension == dimension), key=lambda each: each.size)
            ms_of_smallest, blocks_of_smallest = of_it[0].median(operation)
            for subject in of_it:
                ms, blocks = subject.median(operation)
                ratio = round(blocks / blocks_of_smallest, 2)
                bound = BOUNDS.get((operation, dimension), "")
                yield {
                    "operation": operation,
                    "dimension": dimension,
                    "size": subject.size,
                    "ms": round(ms, 2),
                    "blocks": int(blocks),
                    "ratio_to_smallest": ratio,
                    "ms_ratio": round(ms / ms_of_smallest, 2),
                    "bound": bound,
                    "held": ratio <= HELD_RATIO_MAX or bool(bound),
                }
