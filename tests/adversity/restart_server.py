"""The server under test as a process: started, killed alone or with its PostgreSQL, again; and who may sign in."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from protocol.dialog_types import DialogType
from server.clock import SystemClock
from server.signing_keys import SigningKeys, new_pem
from server.tokens import Tokens
from storage.embedded import EmbeddedPostgres, kill_cluster
from tests.adversity.serve_for_tests import ISSUER
from tests.world import Person, World

ROOT = Path(__file__).parents[2]
START_S_MAX = 120.0
_LISTENS = re.compile(rb"listens on http://[\d.]+:(\d+)")


class ServerProcess:
    """One server on one data folder, whose lives follow each other. `port` is that of the life at hand."""

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.port = 0
        self.kills = 0
        self.database = EmbeddedPostgres(folder / "data")
        self._folder = folder
        self.key_file = folder / "keys.pem"
        self.key_file.write_text(new_pem())
        self._environment = {
            **os.environ,
            "TCHAT__SERVER__DATA_DIR": str(self.database.data_dir),
            "TCHAT__SERVER__PORT": "0",
            "TCHAT__SERVER__ADMIN_PORT": "0",
            **settings,
        }
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        """Return when it listens."""
        self.database.data_dir.mkdir(exist_ok=True)
        with (self._folder / "server.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.adversity.serve_for_tests", str(self.key_file)),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
                env=self._environment,
            )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_S_MAX):
            async for line in self._process.stdout:
                if (found := _LISTENS.search(line)) is not None:
                    self.port = int(found[1])
                    return
        raise RuntimeError(f"the server did not start: see {self._folder / 'server.log'}")

    def kill(self, rng: random.Random, *, with_postgres: bool) -> None:
        """SIGKILL, now; together with PostgreSQL in either order."""
        self.kills += 1
        postgres_first = rng.random() < 0.5
        if with_postgres and postgres_first:
            kill_cluster(self.database.data_dir)
        self._process.kill()
        if with_postgres and not postgres_first:
            kill_cluster(self.database.data_dir)

    async def gone(self) -> None:
        """Return when the process has ended."""
        await self._process.wait()

    async def stop(self) -> int:
        """End it politely; its exit code."""
        self._process.send_signal(signal.SIGTERM)
        return await self._process.wait()


@dataclass(frozen=True)
class SignIn:
    """One device of a person, and the token it connects with."""

    name: str
    principal: bytes
    device: bytes
    sign_in: bytes
    token: str


class Accounts:
    """People and their sign-ins, put where the server looks for them."""

    def __init__(self, server: ServerProcess) -> None:
        keys = SigningKeys.from_pem(server.key_file.read_text())
        self._url = server.database.url
        self._tokens = Tokens(keys, SystemClock(), issuer=ISSUER, audience=ISSUER, ttl_s=3600)
        self._people: dict[str, bytes] = {}
        self._numbers = itertools.count(1)

    async def sign_in(self, person: str) -> SignIn:
        """A new device of a person; the first one makes the person."""
        world = await World.open(self._url)
        if person not in self._people:
            made = await world.person()
            await world.create(DialogType.SELF, made)
            self._people[person] = made.principal
        else:
            made = Person(self._people[person])
            await world.another_sign_in(made)
        await world.close()
        token = self._tokens.issue(tenant=1, principal=made.principal, device=made.device, sign_in=made.sign_in)
        return SignIn(f"{person}{next(self._numbers)}", made.principal, made.device, made.sign_in, token)
