"""The PostgreSQL of a cluster, and what happens to it. Each fault says how much of it was felt; 0: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psutil

from storage.embedded.cluster import USER, EmbeddedPostgres
from storage.embedded.install import Launcher, SystemAccount
from tests.adversity.cluster_clock import SteppedClock, find_compiler
from tests.adversity.restart_server import LateCommit

_STEP_S = 3600
_STEPPED_FOR_S = (2.0, 8.0)
_PAUSED_S = (2.0, 5.0)
_LATE_S = (1.0, 5.0)
_SYNC_S_MAX = 30.0
_FOLLOWS = """
SELECT EXISTS (SELECT FROM pg_stat_replication
               WHERE state = 'streaming' AND sync_state = 'sync' AND flush_lsn >= $1::text::pg_lsn)
"""
_WAIT_FOR_STANDBY = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


class Replicated(EmbeddedPostgres):
    """A PostgreSQL that may have a standby, or is one: a copy of `primary` that follows it until it is promoted."""

    def __init__(self, data_dir: Path, clock: SteppedClock | None, primary: EmbeddedPostgres | None = None) -> None:
        super().__init__(data_dir, {"max_connections": "200"})
        self._clock = clock
        self._primary = primary

    @property
    def socket_folder(self) -> Path:
        return Path(parse_qs(urlsplit(self.url).query)["host"][0])

    def signal_all(self, number: int) -> None:
        """Send a signal to each of its processes."""
        postmaster = psutil.Process(self.pid)
        for process in (postmaster, *postmaster.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    async def promote(self) -> None:
        """It follows nobody from now on, and takes writes."""
        connection = await asyncpg.connect(self.url)
        assert await connection.fetchval("SELECT pg_promote()"), "promoted within a minute"
        await connection.close()
        self._primary = None
        del self._settings["primary_conninfo"]

    def _create_cluster(self, launcher: Launcher, account: SystemAccount) -> None:
        if self._primary is None:
            super()._create_cluster(launcher, account)
            return
        self._cluster.mkdir(mode=0o700)
        if not account.is_ours:
            os.chown(self._cluster, account.uid, account.gid)
        copy = [launcher.program("pg_basebackup"), "-D", launcher.folder(self._cluster), "-R", "--checkpoint=fast"]
        launcher.run([*copy, "-d", self._source(launcher)])

    def _launch(self, launcher: Launcher) -> subprocess.Popen[bytes]:
        with (self._cluster / "pg_hba.conf").open("a") as rules:
            rules.write(f"local replication {USER} peer map=tchat\n")
        if self._primary is not None:
            self._settings["primary_conninfo"] = self._source(launcher)
        if self._clock is None:
            return super()._launch(launcher)
        return super()._launch(cast("Launcher", _Clocked(launcher, self._clock)))

    def _source(self, launcher: Launcher) -> str:
        assert isinstance(self._primary, Replicated)
        return f"host={launcher.folder(self._primary.socket_folder)} port=5432 user={USER}"


class _Clocked:
    """A launcher whose programs have a clock of their own."""

    def __init__(self, launcher: Launcher, clock: SteppedClock) -> None:
        self.program, self.folder = launcher.program, launcher.folder
        self._launcher = launcher
        self._clock = clock

    def start(self, command: Sequence[str], output: int) -> subprocess.Popen[bytes]:
        env = shutil.which("env")
        assert env is not None
        return self._launcher.start([env, *self._clock.variables(self.folder(self._clock.folder)), *command], output)


class ClusterPostgres:
    """The primary of the moment. `moved` is called with its URL when it becomes another one."""

    def __init__(self, folder: Path, rng: random.Random, moved: Callable[[str], None]) -> None:
        self.promotions = 0
        self._folder = folder
        self._rng = rng
        self._moved = moved
        self._clock = SteppedClock(folder / "clock") if find_compiler() else None
        self._primary = Replicated(folder / "data", self._clock)
        self._standby: Replicated | None = None
        self._restarting = asyncio.Lock()

    @property
    def url(self) -> str:
        return self._primary.url

    async def start(self) -> None:
        await asyncio.to_thread(self._primary.start)

    async def abandon(self) -> None:
        if self._standby is not None:
            await asyncio.to_thread(self._standby.kill)
        await asyncio.to_thread(self._primary.stop)

    # faults

    async def kill(self) -> int:
        """PostgreSQL dies in the middle of commits, and starts again; the connections that it had."""
        async with self._restarting:
            connections = len(psutil.Process(self._primary.pid).children())
            self._primary.kill()
            await self.start()
        return connections

    async def commit_late(self) -> int:
        """What one node writes is committed seconds later than what others write meanwhile; the statements."""
        async with self._restarting:
            late = await LateCommit.hold(self.url)
            await asyncio.sleep(self._rng.uniform(*_LATE_S) if late.held else 0)
            await late.let_go()
        return late.held

    async def step_clock(self) -> int:
        """Its clock steps by an hour, ahead or back, and a while later back again; the steps."""
        assert self._clock is not None
        step_s = self._rng.choice((-_STEP_S, _STEP_S))
        async with self._restarting:
            before_s = await self._clock_s()
            self._clock.step_to(step_s)
            moved_s = await self._clock_s() - before_s
            await asyncio.sleep(self._rng.uniform(*_STEPPED_FOR_S))
            self._clock.step_to(0)
        return 2 * (abs(moved_s - step_s) < _STEP_S / 2)

    async def fail_over(self) -> int:
        """A synchronous standby stands still, so that commits wait for it, and then takes over; waits and promotions.

        In half of the cases it goes on before the primary dies, in the others after.
        """
        async with self._restarting:
            old, new = (
                self._primary,
                Replicated(self._folder / f"data-{self.promotions + 1}", self._clock, self._primary),
            )
            self._standby = new
            await asyncio.to_thread(new.start)
            async with self._connected(old) as connection:
                await self._await_sync(connection)
                new.signal_all(signal.SIGSTOP)
                await asyncio.sleep(self._rng.uniform(*_PAUSED_S))
                waits = int(await connection.fetchval(_WAIT_FOR_STANDBY))
            if self._rng.random() < 0.5:
                new.signal_all(signal.SIGCONT)
                await asyncio.sleep(self._rng.uniform(0.0, 1.0))
            await asyncio.to_thread(old.kill)
            new.signal_all(signal.SIGCONT)
            await new.promote()
            self._primary, self._standby = new, None
            self.promotions += 1
            self._moved(new.url)
            shutil.rmtree(old.data_dir)
        return waits

    async def _await_sync(self, connection: asyncpg.Connection[Any]) -> None:
        """From now on a commit waits for the standby, and all before is there."""
        await connection.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        await connection.execute("SELECT pg_reload_conf()")
        await asyncio.sleep(1.0)  # a statement that runs now may still commit alone
        written = await connection.fetchval("SELECT pg_current_wal_insert_lsn()::text")
        async with asyncio.timeout(_SYNC_S_MAX):
            while not await connection.fetchval(_FOLLOWS, written):
                await connection.execute("SELECT pg_sleep(0.05)")

    async def _clock_s(self) -> float:
        async with self._connected(self._primary) as connection:
            return float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())"))

    @contextlib.asynccontextmanager
    async def _connected(self, server: EmbeddedPostgres) -> AsyncIterator[asyncpg.Connection[Any]]:
        connection: asyncpg.Connection[Any] = await asyncpg.connect(server.url)
        try:
            yield connection
        finally:
            connection.terminate()
