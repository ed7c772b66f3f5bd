"""A server that is killed and started again: `python -m tests.adversity.restart --rounds 20 --seed N`.

Beside all that happens in every `conversation`, once in each round the server is killed: by turns alone, together with
its PostgreSQL, and while a statement of it is about to commit in a PostgreSQL that goes on. In rounds with such a
PostgreSQL its replies are lost, too.

Prints one JSON line, and exits with 1 when a promise was broken or it never came to rest.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.adversity.conversation import SETTINGS, Servers, converse, run_to_the_end
from tests.adversity.restart_server import ServerProcess
from tests.adversity.restart_timeline import Timeline
from tests.adversity.restart_verify import Violations
from tests.support.cutting_proxy import CuttingProxy

MESSAGES_PER_ROUND = 500


class OneServer(Servers):
    """A server with its PostgreSQL, one life after another."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._server = ServerProcess(folder, SETTINGS | {"TCHAT__SERVER__LOG_LEVEL": "debug"})
        self._rng = random.Random(f"{seed} server")
        self._round = 0
        self._proxy: CuttingProxy

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def log(self) -> Path:
        return self._server.log

    async def read_timeline(self) -> Timeline:
        return await Timeline.read_from(self._server.database.url)

    async def open(self, proxy: CuttingProxy) -> None:
        self._proxy = proxy
        await self._server.cutter.open()
        await self._server.start()
        proxy.targets = [self._server.port]

    async def close(self) -> int:
        return await self._server.stop()

    async def abandon(self) -> None:
        await self._server.abandon()
        await self._server.cutter.close()

    def plan(self) -> list[str]:
        self._round += 1
        return ["kill", *(["lose replies"] * self._rng.randint(2, 4) if self._server.external else [])]

    async def strike(self, blow: str) -> None:
        if blow == "kill":
            await self._kill_and_start()
        elif self._server.external:
            self._server.cutter.lose_replies()

    async def heal(self) -> None:
        self._server.cutter.calm()

    def rested(self) -> None:
        pass

    def summary(self) -> dict[str, Any]:
        return {
            "kills": self._server.kills,
            "late_commits": self._server.late_commits,
            "replies_lost": self._server.cutter.lost,
        }

    def check(self, violations: Violations) -> None:
        pass

    async def _kill_and_start(self) -> None:
        """By turns alone, with PostgreSQL, before a commit, with PostgreSQL; in the last two it is not embedded."""
        turn = self._round % 4
        late = None
        if turn == 3:
            late = await self._server.kill_before_a_commit(self._rng)
        else:
            self._server.kill(self._rng, with_postgres=turn != 1)
        self._proxy.targets = []
        await self._server.gone()
        starting = asyncio.ensure_future(self._server.start(external=turn in (2, 3)))
        if late is not None:
            await asyncio.wait({starting}, timeout=self._rng.uniform(0.5, 3.0))
            if starting.done():
                self._proxy.targets = [self._server.port]
                await asyncio.sleep(0.5)  # clients come back before the commit
            await late.let_go()
        await starting
        self._proxy.targets = [self._server.port]


async def restart(
    rounds: int, seed: int, messages_per_round: int = MESSAGES_PER_ROUND, folder: Path | None = None
) -> tuple[dict[str, Any], Violations]:
    """Some rounds of it; the summary, and what was found."""
    with contextlib.ExitStack() as stack:
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tchat-restart-")))
        folder.mkdir(exist_ok=True)
        servers = OneServer(folder, seed)
        return await converse(servers, lambda number: number <= rounds, seed, messages_per_round, folder)


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.restart", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--messages", type=int, default=MESSAGES_PER_ROUND, help="per round")
    parser.add_argument("--folder", type=Path, help="keep the data and the server's log here; default: nowhere")
    chosen = parser.parse_args()
    return run_to_the_end(restart(chosen.rounds, chosen.seed, chosen.messages, chosen.folder))


if __name__ == "__main__":
    sys.exit(main())
