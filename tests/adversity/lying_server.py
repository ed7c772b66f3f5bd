"""A server that lies: `python -m tests.adversity.lying_server --seed N`.

Real clients talk in a sealed group on a real node. In each round the node, its database or what stands before a client
tells one lie (`lies.py`); one round, `honest`, is without a lie. Prints one JSON line for each: `detected_by` is the
notice that a client showed, `shown_as` its reason, `leaked` counts keys that honest clients made for devices that must
not have them, false sessions that they took, and messages that left after the lie was noticed where nothing must
leave. `false_alarms` counts what clients found wrong in the honest round. It exits with 1 unless every lie is detected,
and the rest is 0.

What no client can notice has its line in docs/security.md.
"""
# ruff: noqa: T201 - a command prints

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from protocol.bodies import TimelineEvent
from protocol.commands import Add, Create, Edit, Remove
from protocol.dialog_types import DialogType
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.migrate import migrate
from tchat.encryption.notices import BackupRestored, MessagesMissing, ViewsDiffer
from tests.adversity.lies import HOLDS, LIES
from tests.adversity.lying_stage import Stage, playing
from tests.support.harness import Running, configured, running

_ONE_REASON: dict[type, str] = {
    ViewsDiffer: "views_differ",
    MessagesMissing: "messages_missing",
    BackupRestored: "refused",
}


async def tell(server: Running, name: str, seed: int) -> dict[str, Any]:
    """One lie; what came of it."""
    async with playing(server) as stage:
        await stage.begin()
        found: dict[str, Any] = {"lie": name, "seed": seed, "detected_by": "", "shown_as": "", "leaked": 0}
        with contextlib.suppress(TimeoutError):
            shown = await LIES[name](stage, random.Random(seed))
            found |= {"detected_by": type(shown).__name__, "shown_as": _shown_as(shown)}
        if name in HOLDS:
            found["leaked"] += not await getattr(stage, HOLDS[name]).is_held(stage.group)
        found["leaked"] += stage.leaked
        return found


def _shown_as(shown: object) -> str:
    """The stable reason of a notice; of a sort that has one reason only, its name."""
    reason = getattr(shown, "reason", None) or getattr(shown, "verdict", None)
    return str(reason) if reason else _ONE_REASON[type(shown)]


async def tell_nothing(server: Running, seed: int) -> dict[str, Any]:
    """An honest round: members and devices come and go, and everybody reads what they may."""
    rnd = random.Random(seed)
    async with playing(server) as stage:
        await stage.begin()
        said = await _talk(stage, rnd)
        alarms = [str(alarm) for player in stage.players for alarm in player.alarms]
        return {"lie": "honest", "seed": seed, "messages": said, "false_alarms": len(alarms), "alarms": alarms[:5]}


async def _talk(stage: Stage, rnd: random.Random) -> int:
    here, said = [stage.ann, stage.bo, stage.cy], 3
    direct = (await stage.ann.client.perform(Create(0, 0, DialogType.DIRECT, [stage.bo.id]))).dialog
    for step in range(12):
        what, author = rnd.choice(["say", "say", "edit", "direct", "eve", "bo"]), rnd.choice(here)
        text = b"%d" % step
        if what == "eve" and stage.eve in here:
            await stage.ann.client.perform(Remove(0, stage.group, 0, stage.eve.id))
            here.remove(stage.eve)
        elif what == "eve":
            seq = (await stage.ann.client.perform(Add(0, stage.group, 0, [stage.eve.id]))).seq
            await stage.eve.hears(TimelineEvent, lambda event: (event.dialog, event.seq) == (stage.group, seq))  # noqa: B023
            here.append(stage.eve)
        elif what == "direct":
            await stage.ann.says(direct, text)
            await stage.bo.reads(direct, text)
        else:
            seq = await author.says(stage.group, text)
            for player in here:
                await player.reads(stage.group, text)
            if what == "edit":
                await author.client.perform(Edit(0, stage.group, 0, seq, text + b"!"))
        said += what != "eve"
    return said


async def run(url: str, names: list[str], seed: int) -> list[dict[str, Any]]:
    """All rounds on one node."""
    async with running(url, configured()) as server:
        found = []
        for name in names:
            if name == "honest":
                found.append(await tell_nothing(server, seed))
            else:
                found.append(await tell(server, name, seed))
            print(json.dumps(found[-1]), flush=True)
        return found


def is_held(found: dict[str, Any]) -> bool:
    """Whether a round is as it must be."""
    if found["lie"] == "honest":
        return not found["false_alarms"]
    return bool(found["detected_by"]) and not found["leaked"]


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.lying_server", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--only", choices=[*LIES, "honest"], help="one round, not all")
    chosen = parser.parse_args()
    names = [chosen.only] if chosen.only else [*LIES, "honest"]
    with tempfile.TemporaryDirectory(prefix="tchat-lies-") as folder, EmbeddedPostgres(Path(folder)) as postgres:
        asyncio.run(migrate(postgres.url))
        found = asyncio.run(run(postgres.url, names, chosen.seed))
    return 0 if all(map(is_held, found)) else 1


if __name__ == "__main__":
    sys.exit(main())
