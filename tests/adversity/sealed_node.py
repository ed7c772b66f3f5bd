"""The server of a run of sealed conversations: a process that is killed and started again, on the same port."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from server.clock import SystemClock
from server.identity.signing_keys import SigningKeys, new_pem
from server.identity.tokens import Tokens
from server.identity.vault import new_key
from tests.adversity.restart_server import NO_LIMITS, START_S_MAX, find_port, start_node
from tests.engines.server_process import free_port
from tests.support.harness import issue_token
from tests.support.world import Person, World

MANY = str(10**9)
_SETTINGS = NO_LIMITS | {
    "TCHAT__SERVER__ADMIN_PORT": "0",
    "TCHAT__SESSIONS__COMMANDS_PER_S": MANY,
    "TCHAT__SESSIONS__COMMANDS_BURST": MANY,
    "TCHAT__SESSIONS__SENDS_PER_S": MANY,
    "TCHAT__SESSIONS__SENDS_BURST": MANY,
    "TCHAT__LIMITS__DEVICE_LOG_ENTRIES_PER_PERSON_PER_DAY": MANY,
    "TCHAT__LIMITS__KEY_CLAIMS_PER_DEVICE_PER_H": MANY,
    "TCHAT__IDENTITY__WHO_MAY_ADD": "everybody",
}


class MortalNode:
    """`tchat serve` on a database, one life after another, and the people on it."""

    def __init__(self, folder: Path, environment: Mapping[str, str], tokens: Tokens, world: World) -> None:
        self.world = world
        self.port = free_port()
        self._log = folder / "server.log"
        self._environment = {**environment, "TCHAT__SERVER__PORT": str(self.port)}
        self._tokens = tokens
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """Where its websocket is."""
        return f"ws://127.0.0.1:{self.port}/v1/ws"

    def token(self, person: Person) -> str:
        """An access token."""
        return issue_token(self._tokens, person)

    async def start(self) -> None:
        """Begin a life; return when it listens."""
        process = self._process = await start_node(self._environment, self._log)
        assert process.stdout is not None
        async with asyncio.timeout(START_S_MAX):
            while find_port(line := await process.stdout.readline()) is None:
                assert line, self._log.read_text()[-2000:]

    async def kill(self) -> None:
        """End it at once, wherever it is."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@contextlib.asynccontextmanager
async def serving(url: str, folder: Path, settings: Mapping[str, str] = _SETTINGS) -> AsyncIterator[MortalNode]:
    """A server on the database at `url`, which it alone serves."""
    pem = new_pem()
    (key := folder / "signing_key").write_text(pem)
    tokens = Tokens(SigningKeys.from_pem(pem), SystemClock(), issuer="tchat", audience="tchat", ttl_s=36_000)
    environment = {
        **os.environ,
        **settings,
        "TCHAT__SERVER__DATA_DIR": str(folder / "data"),
        "TCHAT__STORAGE__POSTGRES_URL": url,
        "TCHAT__IDENTITY__SIGNING_KEY_FILE": str(key),
        "TCHAT__IDENTITY__PHONE_KEY": new_key(),
    }
    world = await World.open(url)
    node = MortalNode(folder, environment, tokens, world)
    try:
        await node.start()
        world.incarnation = await world.journal.begin_incarnation("test")  # the node has ended the one before
        yield node
    finally:
        await node.kill()
        await world.close()
