"""True and false reports of sealed messages: `python -m tests.adversity.reports`.

Members of sealed groups report messages, edits and reactions to a real node, as they are and as they are not: with
other content, another key, of another author, device, number or dialog, with keys of other lengths, too late, as
strangers. Some of what is reported has been erased, some is in the archive only, some is erased there.

Prints one JSON line. `true_refused`: true reports that were refused, or that moderators do not find as they were made.
`false_accepted`: false ones that were kept. It exits with 1 unless both are 0.
"""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace as replace_fields
from nacl.public import PrivateKey, SealedBox

from protocol import bodies
from protocol.bodies import Edited, Header, Posted, Reacted
from protocol.canonical import to_base64
from protocol.dialog_types import DialogType, Mode
from protocol.errors import ErrorCode
from protocol.ids import from_text, new_id
from protocol.kinds import DAY_MS, Kind
from protocol.limits import COMMITMENT_KEPT_DAYS
from protocol.replies import Done, Failed
from protocol.report_commands import Report
from server.config.settings import RateSettings, ReportSettings, SessionSettings
from storage.embedded.cluster import EmbeddedPostgres
from storage.local.archive import LocalArchive
from storage.postgres.migrate import migrate
from storage.postgres.reports import PostgresReports
from storage.reports import Evidence
from tests.support.archiving import drop_rows, journal_rows
from tests.support.harness import Running, Wire, configured, running
from tests.support.sealed_group import SealedGroup, Written
from tests.support.sealing import another_device_of
from tests.support.world import Person

MANY = 10**9
KEPT_MS = COMMITMENT_KEPT_DAYS * DAY_MS
REFUSALS = frozenset({ErrorCode.REPORT_REFUSED, ErrorCode.EVENT_NOT_FOUND, ErrorCode.DIALOG_NOT_FOUND})
"""What a false report may be answered with; anything else is no verdict, and counts as accepted."""
REPORTS_PER_PAGE = 500

Fate = Callable[["Talk"], Awaitable[None]]


@dataclass
class Talk:
    """What was written in a group: messages of Ann, an edit of hers, a reaction of Bo; and another group of theirs."""

    node: Running
    archive: LocalArchive
    group: SealedGroup
    other: SealedGroup
    second_device: Person
    written: list[Written]

    @property
    def seqs(self) -> list[int]:
        """The numbers of all that was written."""
        return [each.seq for each in self.written]


async def leave(_talk: Talk) -> None:
    """Nothing happens to it."""


async def erase(talk: Talk) -> None:
    """Its author deletes the message; what hangs on it is erased some time later."""
    await talk.group.world.act(bodies.Deleted, talk.group.dialog, talk.group.members[0], target=talk.written[0].seq)


async def erase_all(talk: Talk) -> None:
    """The message is erased, and all that hangs on it."""
    await erase(talk)
    now_ms: int = await talk.group.world.pool.fetchval("SELECT unix_ms()")
    while (await talk.group.world.journal.erase_due(now_ms, limit=500)).more:
        pass


async def archive(talk: Talk) -> None:
    """All of it has left the journal."""
    await _archive(talk, talk.seqs)


async def archive_hanging(talk: Talk) -> None:
    """The edit and the reaction have left the journal, then the message is deleted."""
    await _archive(talk, talk.seqs[1:])
    await erase(talk)


async def erase_archived(talk: Talk) -> None:
    """All of it has left the journal, and is erased then, as what a purged person wrote."""
    await _archive(talk, talk.seqs)
    for seq in talk.seqs:
        await talk.group.world.pool.execute("SELECT erase_message($1, $2, unix_ms())", talk.group.dialog, seq)


async def _archive(talk: Talk, seqs: list[int]) -> None:
    rows = [row for row in await journal_rows(talk.group.world) if row.event.dialog == talk.group.dialog]
    await talk.archive.write([row for row in rows if row.event.seq in seqs], epoch=await talk.group.world.read_epoch())
    for seq in seqs:
        await drop_rows(talk.group.world, talk.group.dialog, seq, seq)


FATES: tuple[Fate, ...] = (leave, erase, erase_all, archive, archive_hanging, erase_archived)


class Tool:
    """Reports, and compares what the server and the moderators say with what is true."""

    def __init__(self, node: Running, archive: LocalArchive, rng: random.Random) -> None:
        self.counts: Counter[str] = Counter()
        self._node = node
        self._archive = archive
        self._rng = rng
        self._true: set[tuple[bytes, int, bytes, bytes, bytes]] = set()

    async def run(self, rounds: int) -> None:
        """So many groups, each with a fate."""
        for number in range(rounds):
            talk = await self._begin()
            fate = FATES[number % len(FATES)]
            await fate(talk)
            self.counts[fate.__name__] += 1
            await self._report(talk)
            if fate is erase_all:
                await self._report_late(talk)

    async def _begin(self) -> Talk:
        world = self._node.world
        group = await SealedGroup.of_three(world)
        ann, bo, _ = group.members
        dialog = await world.create(DialogType.GROUP, *group.members, mode=Mode.SEALED)
        other = SealedGroup(world, dialog, list(group.members))
        second_device = await another_device_of(world, ann)
        for each in (group, other):
            each.members.append(second_device)
        said = await group.post(ann, self._draw())
        written = [said, await group.edit(ann, said, self._draw()), await group.react(bo, said, self._draw())]
        return Talk(self._node, self._archive, group, other, second_device, written)

    async def _report(self, talk: Talk) -> None:
        _, bo, cy, _ = talk.group.members
        stranger = await self._node.world.person()
        async with AsyncExitStack() as stack:
            people = (bo, cy, stranger)
            wires = {each.principal: await stack.enter_async_context(self._node.live(each)) for each in people}
            for written in self._rng.sample(talk.written, len(talk.written)):
                for kind, report in self._false_of(talk, written):
                    await self._ask_false(kind, wires[bo.principal], report)
                await self._ask_false("stranger", wires[stranger.principal], written.report(9))
                for reporter in (bo, cy, bo):
                    await self._ask_true(wires[reporter.principal], reporter, written)
            for kind, forged in await self._forge(talk):
                await self._ask_false(kind, wires[bo.principal], forged.report(9))

    async def _report_late(self, talk: Talk) -> None:
        """True reports, as if thirty days had passed since the erasure."""
        await talk.group.world.pool.execute(
            "UPDATE erased_commitments SET until_ms = until_ms - $2 WHERE dialog_id = $1", talk.group.dialog, KEPT_MS
        )
        async with self._node.live(talk.group.members[2]) as wire:
            for written in talk.written:
                await self._ask_false("late", wire, written.report(9))

    def _false_of(self, talk: Talk, written: Written) -> Iterator[tuple[str, Report]]:
        """Reports of an event as it is not."""
        true, others = written.report(9), [each for each in talk.written if each is not written]
        other = self._rng.choice(others)
        bit = self._rng.randrange(256)
        flipped = bytearray(written.key)
        flipped[bit // 8] ^= 1 << bit % 8
        yield "content", replace_fields(true, content=self._draw())
        yield "content", replace_fields(true, content=true.content + b"\0")
        yield "key", replace_fields(true, key=bytes(flipped))
        yield "key", replace_fields(true, key=other.key)
        yield "key length", replace_fields(true, key=written.key + b"\0")
        yield "key length", replace_fields(true, key=written.key[:-1])
        yield "key length", replace_fields(true, key=b"")
        yield "event", replace_fields(true, seq=other.seq)
        yield "event", replace_fields(true, seq=1)
        yield "event", replace_fields(true, seq=max(talk.seqs) + 1000)
        yield "dialog", replace_fields(true, dialog=talk.other.dialog)
        yield "dialog", replace_fields(true, dialog=new_id())

    async def _forge(self, talk: Talk) -> list[tuple[str, Written]]:
        """Events with the commitment of another one, each in another place than that one."""
        ann, bo, _, second_device = talk.group.members
        of = await talk.group.post(ann, self._draw())
        edit = await talk.group.edit(ann, of, self._draw())
        posted = Posted(Kind.MESSAGE, Header(), b"sealed")
        return [
            ("author", await talk.group.forge(bo, of, posted)),
            ("device", await talk.group.forge(second_device, of, posted, n=of.franked.n)),
            ("n", await talk.group.forge(ann, of, posted)),
            ("dialog", await talk.other.forge(ann, of, posted, n=of.franked.n)),
            ("tag", await talk.group.forge(ann, of, Edited(of.seq, b"sealed"))),
            ("target", await talk.group.forge(ann, edit, Reacted(of.seq, b"sealed"))),
        ]

    async def _ask_true(self, wire: Wire, reporter: Person, written: Written) -> None:
        reason = self._draw().hex()
        answer = await _ask(wire, written.report(9, reason))
        self.counts["true"] += 1
        self.counts["true_refused"] += not isinstance(answer, Done)
        self._true.add((reporter.principal, written.seq, written.franked.dialog, written.franked.content, written.key))

    async def _ask_false(self, kind: str, wire: Wire, report: Report) -> None:
        answer = await _ask(wire, report)
        self.counts["false"] += 1
        self.counts[f"false: {kind}"] += 1
        self.counts["false_accepted"] += not (isinstance(answer, Failed) and answer.code in REFUSALS)

    async def compare(self, moderators: PrivateKey) -> None:
        """What moderators read is what was truly reported, once each, and nothing else."""
        found: list[tuple[bytes, int, bytes, bytes, bytes]] = []
        after, store = 0, PostgresReports(self._node.world.pool)
        while rows := await store.list(after=after, limit=REPORTS_PER_PAGE):
            for row in rows:
                read = msgspec.json.decode(SealedBox(moderators).decrypt(row.sealed), type=Evidence)
                found.append((from_text(read.reporter), read.seq, from_text(read.dialog), read.content, read.key))
            after = rows[-1].number
        self.counts["kept"] = len(found)
        self.counts["true_refused"] += len(self._true - set(found))
        self.counts["false_accepted"] += len(set(found) - self._true) + len(found) - len(set(found))

    def _draw(self) -> bytes:
        return self._rng.randbytes(self._rng.choice([1, 20, 100]))


async def _ask(wire: Wire, report: Report) -> Any:
    """The answer; one that says to come again is asked for again."""
    while True:
        answer = await wire.ask(report)
        if not (isinstance(answer, Failed) and ErrorCode(answer.code).temporary):
            return answer
        await asyncio.sleep(answer.retry_after_s or 0.1)


async def make_reports(url: str, rounds: int, seed: int) -> dict[str, Any]:
    """A run; what came of it."""
    moderators = PrivateKey.generate()
    config = configured(
        sessions=SessionSettings(commands_per_s=MANY, commands_burst=MANY),
        limits=RateSettings(reports_per_person_per_day=MANY, reports_about_person_per_day=MANY),
        reports=ReportSettings(moderators_key=to_base64(bytes(moderators.public_key))),
    )
    archive_ = LocalArchive()
    async with running(url, config, archive=archive_) as node:
        tool = Tool(node, archive_, random.Random(seed))
        await tool.run(rounds)
        await tool.compare(moderators)
    counts = {"true_refused": 0, "false_accepted": 0} | tool.counts
    return {"seed": seed, **dict(sorted(counts.items()))}


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.reports", description=__doc__)
    parser.add_argument("--rounds", type=int, default=120, help="groups whose messages are reported")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tchat-reports-") as folder, EmbeddedPostgres(Path(folder)) as postgres:
        asyncio.run(migrate(postgres.url))
        said = asyncio.run(make_reports(postgres.url, chosen.rounds, chosen.seed))
    print(json.dumps(said))
    return 1 if said["true_refused"] or said["false_accepted"] else 0


if __name__ == "__main__":
    sys.exit(main())
