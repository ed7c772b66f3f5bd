"""A chat, a ledger and relays as processes that can be killed and paused; people who talk, and pay each other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from websockets.exceptions import WebSocketException

from protocol.command_rules import Command
from protocol.commands import Create, DeleteDialog, Leave
from protocol.dialog_types import DialogType, Mode
from protocol.ids import to_text
from protocol.replies import Acked
from storage.commerce.schema import MONEY_SCHEMA
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.migrate import migrate
from tests.adversity.announce_breaks import Break
from tests.adversity.restart_server import ROOT, Accounts, ServerProcess, SignIn
from tests.support.cutting_proxy import CuttingProxy
from tests.support.harness import live_on
from tests.support.money_world import MoneyWorld

PEOPLE = 10
LEASE_S = 2
RICH = 10**12
SETTINGS = {
    "TCHAT__LIMITS__EVENTS_PER_SERVICE_PER_S": "100000",
    "TCHAT__SESSIONS__COMMANDS_PER_S": "2000",
    "TCHAT__SESSIONS__COMMANDS_BURST": "2000",
}
_RELAY = "from server.node.cli import main; raise SystemExit(main(['relay']))"
_GONE = (OSError, EOFError, TimeoutError, httpx.HTTPError, WebSocketException, AssertionError)
"""What a chat that is away or starts makes of a request."""


@dataclass
class Talk:
    """A dialog of a run: who is in it, since which event somebody is not, whether it was deleted."""

    dialog: bytes
    sealed: bool
    members: list[SignIn]
    left: dict[bytes, int] = field(default_factory=dict)
    leaving: set[bytes] = field(default_factory=set)
    deleted: bool = False

    @property
    def active(self) -> list[SignIn]:
        """Who is in it, as far as is known."""
        return [each for each in self.members if each.principal not in self.leaving]


class RelayProcess:
    """`tchat relay`, one life after another."""

    def __init__(self, environment: dict[str, str], log: Path, prelude: str) -> None:
        self._environment = environment
        self._log = log
        self._program = f"{prelude}\n{_RELAY}"
        self._process: asyncio.subprocess.Process

    async def start(self) -> None:
        """Return when it announces."""
        with self._log.open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", self._program),
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                cwd=ROOT,
                env=self._environment,
            )
        assert self._process.stdout is not None
        if not await self._process.stdout.readline():
            raise RuntimeError(f"a relay did not start: {self._log.read_text()[-2000:]}")

    async def kill(self) -> None:
        """SIGKILL, now."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()

    async def end(self) -> int:
        """End it politely; its exit code."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        return await self._process.wait()

    def pause(self) -> None:
        """It stands still."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """It knows nothing of the pause."""
        self._process.send_signal(signal.SIGCONT)


class Stage:
    """All that a run needs, and its blows."""

    def __init__(self, folder: Path, seed: int, relays: int, broken: Break | None) -> None:
        self.rng = random.Random(f"{seed} stage")
        self.chat = ServerProcess(folder, SETTINGS)
        self.books = EmbeddedPostgres(folder / "books")
        self.proxy = CuttingProxy(self.rng)
        self.people: list[SignIn] = []
        self.talks: list[Talk] = []
        self.money: MoneyWorld
        self.blows: dict[str, int] = {}
        self._broken = broken
        self._key_file = folder / "relay.key"
        self._folder = folder
        self._accounts = Accounts(self.chat)
        self._numbers = iter(range(1, 10**9))
        self._service = ""
        self._count = relays
        self._relays: list[RelayProcess] = []

    async def open(self) -> None:
        """Return when people have money and dialogs, and relays announce."""
        await asyncio.to_thread(self.books.start)
        await migrate(self.books.url, schema=MONEY_SCHEMA)
        self.money = await MoneyWorld.open(self.books.url)
        await self.money.set_fee(100, 1)
        await self.chat.cutter.open()
        await self.chat.start(external=True)
        await self.proxy.open()
        self.proxy.targets = [self.chat.port]
        self.people = [await self._accounts.sign_in(f"p{chr(97 + number)}") for number in range(PEOPLE)]
        for person in self.people:
            await self.money.open_wallet(person.principal, RICH)
        await self._make_service()
        await self._make_talks()
        if self._broken is not None:
            await self._broken.apply_to(self.money.database)
        self._relays = [self._make_relay(number) for number in range(self._count)]
        for relay in self._relays:
            await relay.start()

    async def end_relays(self) -> list[int]:
        """End all relays politely; their exit codes."""
        return [await relay.end() for relay in self._relays]

    async def abandon(self) -> None:
        """Leave nothing running."""
        for relay in self._relays:
            with contextlib.suppress(ProcessLookupError):
                await relay.kill()
        await self.chat.abandon()
        await self.chat.cutter.close()
        await self.proxy.close()
        await self.money.close()
        await asyncio.to_thread(self.books.stop)

    async def strike(self, blow: str) -> None:
        """One of the blows, and what heals it."""
        self.blows[blow] = self.blows.get(blow, 0) + 1
        await getattr(self, blow)()

    async def kill_a_relay(self) -> None:
        """And start it again some time later."""
        relay = self.rng.choice(self._relays)
        await relay.kill()
        await asyncio.sleep(self.rng.uniform(0, 0.5))
        await relay.start()

    async def pause_a_relay(self) -> None:
        """For longer than its leases."""
        relay = self.rng.choice(self._relays)
        relay.pause()
        await asyncio.sleep(LEASE_S * self.rng.uniform(0.5, 1.5))
        relay.go_on()

    async def lose_answers(self) -> None:
        """Posts arrive, and their answers do not."""
        self.proxy.hold(to_server=False)
        await asyncio.sleep(self.rng.uniform(0.05, 0.3))
        self.proxy.swallow()

    async def restart_the_chat(self) -> None:
        """It is killed, and away for some time."""
        self.proxy.targets = []
        self.chat.kill(self.rng, with_postgres=False)
        await self.chat.gone()
        self.proxy.cut()
        await asyncio.sleep(self.rng.uniform(0.2, 2.0))
        await self.chat.start(external=True)
        self.proxy.targets = [self.chat.port]

    async def renew_the_key(self) -> None:
        """The old one ends, and the operator needs a moment."""
        made = await self._insist(
            lambda: self._accounts.ask("POST", f"/admin/services/{self._service}/key", token=self.people[0].token)
        )
        await asyncio.sleep(self.rng.uniform(0, 0.5))
        self._key_file.write_text(made["key"])

    async def have_somebody_leave(self) -> None:
        """One of an open group, for good; not who is its admin."""
        talks = [talk for talk in self.talks if not talk.deleted and len(talk.active) > 3]
        if talks:
            talk = self.rng.choice(talks)
            person = self.rng.choice(talk.active[1:])
            talk.leaving.add(person.principal)
            acked = await self.command(person, Leave(9, talk.dialog, next(self._numbers)))
            talk.left[person.principal] = acked.seq

    async def delete_a_dialog(self) -> None:
        """A group, while payments of it are under way."""
        talks = [talk for talk in self.talks if not talk.deleted and len(talk.members) > 2]
        if len(talks) > 2:
            talk = self.rng.choice(talks)
            talk.deleted = True
            await self.command(talk.members[0], DeleteDialog(9, talk.dialog, next(self._numbers)))

    async def command(self, person: SignIn, command: Command) -> Acked:
        """Have somebody do something, as often as it takes."""

        async def act() -> Acked:
            async with asyncio.timeout(10), live_on(self.chat.port, person.token) as wire:
                answer = await wire.ask(command)
            assert isinstance(answer, Acked), f"{command} was refused: {answer}"
            return answer

        acked: Acked = await self._insist(act)
        return acked

    async def at_rest(self) -> bool:
        """Whether nothing waits to be announced."""
        return not await self.money.database.fetchval(
            "SELECT EXISTS (SELECT 1 FROM outbox) OR EXISTS (SELECT 1 FROM places WHERE due_us IS NOT NULL)"
        )

    async def _insist(self, act: Callable[[], Any]) -> Any:
        for _ in range(100):
            try:
                return await act()
            except _GONE as error:
                last = error
                await asyncio.sleep(0.2)
        raise last

    def _make_relay(self, number: int) -> RelayProcess:
        environment = {
            **os.environ,
            "TCHAT__SERVER__LOG_LEVEL": "warning",
            "TCHAT__RELAY__CHAT_URL": f"http://127.0.0.1:{self.proxy.port}",
            "TCHAT__RELAY__API_KEY_FILE": str(self._key_file),
            "TCHAT__RELAY__POSTGRES_URL": self.books.url,
            "TCHAT__RELAY__LEASE_S": str(LEASE_S),
            "TCHAT__RELAY__ADMIN_PORT": "0",
        }
        prelude = "" if self._broken is None else self._broken.prelude
        return RelayProcess(environment, self._folder / f"relay{number}.log", prelude)

    async def _make_service(self) -> None:
        admin = self.people[0]
        connection = await asyncpg.connect(self.chat.database.url)
        try:
            await connection.execute(
                "UPDATE principals SET admin = true WHERE principal_id = $1", to_text(admin.principal)
            )
        finally:
            await connection.close()
        wish = {"name": "relay", "kinds": ["payment"], "all_dialogs": True}
        made = await self._accounts.ask("POST", "/admin/services", wish, admin.token)
        self._service = made["service"]
        self._key_file.write_text(made["key"])

    async def _make_talks(self) -> None:
        for number in range(8):
            members = self.rng.sample(self.people, 5)
            await self._make_talk(DialogType.GROUP, members, Mode.OPEN, f"group {number}")
        for number in range(4):
            pair = [self.people[2 * number], self.people[2 * number + 1]]
            await self._make_talk(DialogType.DIRECT, pair, Mode.OPEN if number % 2 else Mode.SEALED, "")

    async def _make_talk(self, kind: DialogType, members: list[SignIn], mode: Mode, name: str) -> None:
        others = [each.principal for each in members[1:]]
        create = Create(9, next(self._numbers), kind, others, name, mode)
        made = await self.command(members[0], create)
        self.talks.append(Talk(made.dialog, mode is Mode.SEALED, members))
