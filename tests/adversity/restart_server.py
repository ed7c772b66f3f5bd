"""The server under test as a process: started, killed alone or with its PostgreSQL, again; and signing in to it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import re
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import asyncpg
import httpx

from protocol.ids import from_text, to_text
from storage.embedded.cluster import EmbeddedPostgres, kill_cluster
from tests.support.reply_cutter import ReplyCutter

ROOT = Path(__file__).parents[2]
START_S_MAX = 120.0
_LISTENS = re.compile(rb"listens on http://[\d.]+:(\d+)")
NO_LIMITS = {
    f"TCHAT__LIMITS__{name}": "100000"
    for name in (
        "REQUESTS_PER_ADDRESS_PER_S",
        "CODES_PER_H",
        "CODES_PER_COUNTRY_PER_H",
        "CODES_PER_NUMBER_PER_H",
        "CODES_PER_NUMBER_PER_DAY",
        "CODES_PER_ADDRESS_PER_H",
        "CODES_PER_NEIGHBOURHOOD_PER_H",
        "DIRECT_DIALOGS_PER_PERSON_PER_DAY",
        "DIALOGS_PER_PERSON_PER_DAY",
        "ADDITIONS_PER_PERSON_PER_DAY",
    )
}


_SERVE = ("-c", "from server.node.cli import main; raise SystemExit(main(['serve']))")


async def start_node(
    environment: Mapping[str, str], log: Path, program: Sequence[str] = _SERVE
) -> asyncio.subprocess.Process:
    """`tchat serve` as a process of its own, whose stderr is added to `log`."""
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, *program),
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
            cwd=ROOT,
            env=environment,
        )


def find_port(line: bytes) -> int | None:
    """The port, if with this line of its output a node says where it listens."""
    found = _LISTENS.search(line)
    return None if found is None else int(found[1])


class ServerProcess:
    """`tchat serve` on one data folder, one life after another. `port` is that of the life at hand.

    In some lives the server has the PostgreSQL embedded; in `external` ones we run it, so that it outlives the server,
    and a `ReplyCutter` stands between the two.
    """

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.port = 0
        self.kills = 0
        self.late_commits = 0
        self.external = False
        self.log = folder / "server.log"
        self.database = EmbeddedPostgres(folder / "data")
        self.cutter = ReplyCutter(self.database.url)
        self._environment = {
            **os.environ,
            "TCHAT__SERVER__DATA_DIR": str(self.database.data_dir),
            "TCHAT__SERVER__PORT": "0",
            "TCHAT__SERVER__ADMIN_PORT": "0",
            **NO_LIMITS,
            "TCHAT__IDENTITY__WHO_MAY_ADD": "everybody",
            **settings,
        }
        self._process: asyncio.subprocess.Process | None = None
        self._our_postgres = False

    async def start(self, *, external: bool = False) -> None:
        """Return when it listens."""
        self.external = external
        environment = self._environment
        if external:
            if not self._our_postgres:
                await asyncio.to_thread(self.database.start)
                self._our_postgres = True
            environment = environment | {"TCHAT__STORAGE__POSTGRES_URL": self.cutter.url}
        self._process = await start_node(environment, self.log)
        assert self._process.stdout is not None
        async with asyncio.timeout(START_S_MAX):
            async for line in self._process.stdout:
                if (port := find_port(line)) is not None:
                    self.port = port
                    return
        raise RuntimeError(f"the server did not start: {self.log.read_text()[-2000:]}")

    def kill(self, rng: random.Random, *, with_postgres: bool) -> None:
        """SIGKILL, now; together with PostgreSQL in either order."""
        self.kills += 1
        postgres_first = rng.random() < 0.5
        if with_postgres and postgres_first:
            self._kill_postgres()
        self._living.kill()
        if with_postgres and not postgres_first:
            self._kill_postgres()

    async def kill_before_a_commit(self, rng: random.Random) -> LateCommit:
        """SIGKILL while a statement is about to commit: it does when the one that is returned is let go."""
        late = await LateCommit.hold(self.database.url)
        self.late_commits += late.held
        self.kill(rng, with_postgres=False)
        return late

    async def gone(self) -> None:
        """Return when the process has ended."""
        await self._living.wait()

    async def stop(self) -> int:
        """End it politely; its exit code."""
        self._living.send_signal(signal.SIGTERM)
        code = await self._living.wait()
        await self.abandon()
        return code

    async def abandon(self) -> None:
        """Leave nothing running."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._our_postgres:
            await asyncio.to_thread(self.database.stop)
            self._our_postgres = False
        kill_cluster(self.database.data_dir)

    @property
    def _living(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "not started"
        return self._process

    def _kill_postgres(self) -> None:
        if self._our_postgres:
            self.database.kill()
            self._our_postgres = False
        else:
            kill_cluster(self.database.data_dir)


class LateCommit:
    """Statements of one incarnation that have written, and commit only when they are let go."""

    _TRAP = """
    CREATE TABLE IF NOT EXISTS held_up (incarnation bigint);
    CREATE OR REPLACE FUNCTION hold_up() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        WHILE EXISTS (SELECT FROM held_up h WHERE h.incarnation = NEW.incarnation) LOOP
            PERFORM pg_sleep(0.01);
        END LOOP;
        RETURN NULL;
    END $$;
    CREATE OR REPLACE TRIGGER hold_up AFTER INSERT ON journal FOR EACH ROW EXECUTE FUNCTION hold_up();
    """
    _HOLD_UP = """
    INSERT INTO held_up SELECT incarnation FROM incarnations WHERE ended_at_ms IS NULL ORDER BY random() LIMIT 1
    """
    _HELD = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND state = 'active'"

    def __init__(self, connection: asyncpg.Connection[Any]) -> None:
        self.held = 0
        self._connection = connection

    @classmethod
    async def hold(cls, url: str) -> LateCommit:
        """Hold up what a living incarnation writes, and return when there is something (or after 3 s)."""
        late = cls(await asyncpg.connect(url))
        await late._connection.execute(cls._TRAP)
        await late._connection.execute(cls._HOLD_UP)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3.0):
                while not late.held:
                    late.held = await late._connection.fetchval(cls._HELD)
        return late

    async def let_go(self) -> None:
        """Commit now."""
        await self._connection.execute("DELETE FROM held_up")
        await self._connection.close()


@dataclass(frozen=True)
class SignIn:
    """One device of a person, and the token it connects with."""

    name: str
    principal: bytes
    device: bytes
    sign_in: bytes
    token: str


class SignsIn(Protocol):
    """A server in development, at which people sign in."""

    @property
    def port(self) -> int:
        """Where it listens now."""

    @property
    def log(self) -> Path:
        """Where it writes the codes."""


class Accounts:
    """People who sign in by phone, with the codes that a server in development writes to its log."""

    def __init__(self, server: SignsIn) -> None:
        self._server = server
        self._phones: dict[str, str] = {}
        self._numbers = itertools.count(1)

    async def sign_in(self, person: str) -> SignIn:
        """A new device of a person; the first one signs them up."""
        phone = self._phones.setdefault(person, f"+6591234{len(self._phones):03}")
        sent_before = len(self._codes(phone))
        await self.ask("POST", "/sign-in/codes", {"phone_number": phone})
        *_, code = self._codes(phone)[sent_before:]
        device = {"platform": "ios", "app_version": "1.0"}
        wish = {"phone_number": phone, "code": code, "device": device, "display_name": person}
        got = await self.ask("POST", "/sign-in", wish)
        principal, device_id, sign_in = (from_text(got[name]) for name in ("principal", "device", "sign_in"))
        return SignIn(f"{person}{next(self._numbers)}", principal, device_id, sign_in, got["access_token"])

    async def end(self, sign_in: SignIn, by: SignIn) -> None:
        """End a sign-in from another device of the same person. Raises httpx.HTTPError when it is not sure."""
        await self.ask("DELETE", f"/sign-ins/{to_text(sign_in.sign_in)}", token=by.token)

    def phone_of(self, signed_in: SignIn) -> str:
        """The number with which somebody has signed in."""
        return self._phones[signed_in.name.rstrip("0123456789")]

    def _codes(self, phone: str) -> list[str]:
        return re.findall(rf"code for {re.escape(phone)}: (\d+)", self._server.log.read_text())

    async def ask(self, method: str, path: str, body: Any = None, token: str = "") -> Any:
        """The answer of the HTTP API; raises httpx.HTTPError."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = f"http://127.0.0.1:{self._server.port}/v1{path}"
        async with httpx.AsyncClient(headers=headers, timeout=20.0, trust_env=False) as client:
            answer = await client.request(method, url, json=body)
        answer.raise_for_status()
        return answer.json() if answer.content else None
