"""Where the races are run: a database of commerce whose clock steps and whose server dies, and connections to cut."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self

import asyncpg

from protocol.commerce.payment_states import PaymentState
from protocol.ids import NIL, to_text
from storage.commerce.gathered_steps import GatheredSteps
from storage.commerce.ledger import Ledger
from storage.commerce.money_rows import HOLD_SLOT, LimitSpan
from storage.commerce.schema import MONEY_SCHEMA, MONEY_SETTINGS
from storage.commerce.service_access import GRANTS
from storage.embedded.cluster import EmbeddedPostgres
from storage.postgres.migrate import migrate
from storage.postgres.pool import Pool, open_pool, prepare
from storage.postgres.write_connections import WriteConnections
from storage.unavailable import StorageUnavailableError

SETTINGS = {
    "deadlock_timeout": "20ms",
    "max_wal_size": "2GB",
    # What a commit does not write itself is written late.
    "wal_writer_delay": "10s",
    "wal_writer_flush_after": "1GB",
    "wal_buffers": "32MB",
}
CONNECTIONS = 16
REPEAT_S = 0.01
"""How long to wait before a call without an answer is repeated."""
_START_S_MAX = 60.0
_TEMPLATE = "migrated_books"
_STEPPED_CLOCK = """
CREATE TABLE stepped_clock (offset_us bigint NOT NULL);
INSERT INTO stepped_clock VALUES (0);
CREATE OR REPLACE FUNCTION clock_us() RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT set_config('stage.read_us', ((extract(epoch FROM clock_timestamp()) * 1000000)::bigint + s.offset_us)::text,
                      true)::bigint FROM stepped_clock s
$$;
"""
_BACKENDS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


# A limit that is passed may be given back to at once: it is noted when it is passed.
_WATCH_LIMITS = f"""
CREATE TABLE passed_limits (person_id uuid, span smallint, used bigint);
CREATE FUNCTION note_passed_limit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO passed_limits SELECT NEW.person_id, NEW.span, NEW.used FROM persons p
    WHERE p.person_id = NEW.person_id
      AND NEW.used > CASE NEW.span WHEN {LimitSpan.DAY} THEN p.day_max ELSE p.month_max END;
    RETURN NULL;
END $$;
CREATE TRIGGER watch AFTER INSERT OR UPDATE ON limit_use FOR EACH ROW EXECUTE FUNCTION note_passed_limit();
"""
# What ends a request or a hold is judged by the clock, which the step has read last; dates may lie far ahead of it.
_WATCH_ENDS = f"""
CREATE TABLE mistimed_ends (payment_id uuid, version int);
CREATE FUNCTION note_mistimed_end() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state NOT IN ({PaymentState.DECLINED}, {PaymentState.CANCELLED})
       AND (NEW.state = {PaymentState.EXPIRED}) <> (current_setting('stage.read_us')::bigint >= OLD.expires_us) THEN
        INSERT INTO mistimed_ends VALUES (NEW.payment_id, NEW.version);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER watch AFTER UPDATE ON payments FOR EACH ROW
WHEN (OLD.state IN ({PaymentState.REQUESTED}, {PaymentState.HELD}) AND NEW.version > OLD.version)
EXECUTE FUNCTION note_mistimed_end();
"""
# When a month is over it is closed, and at once, before anybody can hear of it, its trial balance is taken.
_CLOSE_MONTH = f"""
CREATE TABLE trials (ends_us bigint, account uuid, currency text, total numeric, lines bigint);
CREATE FUNCTION trial_balance(p_ends_us bigint)
RETURNS TABLE (account uuid, currency text, total numeric, lines bigint) LANGUAGE sql AS $$
    SELECT CASE WHEN s.slot = {HOLD_SLOT} THEN NULL ELSE s.id END, s.currency, sum(s.delta), count(*)
    FROM (SELECT debit_id AS id, debit_slot AS slot, currency, -amount AS delta FROM transfers WHERE at_us < p_ends_us
          UNION ALL SELECT credit_id, credit_slot, currency, amount FROM transfers WHERE at_us < p_ends_us) s
    GROUP BY 1, 2
$$;
CREATE PROCEDURE close_month(p_period int, p_ends_us bigint) LANGUAGE plpgsql AS $$
BEGIN
    WHILE clock_us() < p_ends_us LOOP
        PERFORM pg_sleep(0.0002);
    END LOOP;
    PERFORM close_period('{to_text(NIL)}', p_period, p_ends_us);
    COMMIT;
    DELETE FROM trials WHERE ends_us = p_ends_us;
    INSERT INTO trials SELECT p_ends_us, t.* FROM trial_balance(p_ends_us) t;
END $$;
"""


class CutConnections(WriteConnections):
    """Connections whose sockets can be lost between a call and its answer."""

    def __init__(self, url: str, *, size: int, statement_timeout_s: float) -> None:
        super().__init__(url, size=size, statement_timeout_s=statement_timeout_s, settings=MONEY_SETTINGS)
        self._opened: list[asyncpg.Connection[Any]] = []

    def cut(self, rng: random.Random) -> None:
        """Lose half of the sockets."""
        for connection in self._opened:
            if rng.random() < 0.5:
                connection.terminate()

    async def _connect(self) -> asyncpg.Connection[Any]:
        connection = await super()._connect()
        self._opened = [each for each in self._opened if not each.is_closed()]
        self._opened.append(connection)
        return connection


async def _copy_template(postgres: EmbeddedPostgres, name: str) -> None:
    """A migrated database; the first one of a cluster is the template of the others."""
    connection = await asyncpg.connect(postgres.url)
    try:
        if not await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", _TEMPLATE):
            await connection.execute(f"CREATE DATABASE {_TEMPLATE}")
            await migrate(postgres.database_url(_TEMPLATE), schema=MONEY_SCHEMA)
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE} STRATEGY file_copy")
    finally:
        await connection.close()


class MoneyStage:
    """A ledger in a fresh database of `postgres`, which runs; `breaks` are statements that make its functions wrong."""

    ledger: Ledger
    gathered: GatheredSteps
    writes: CutConnections

    def __init__(self, postgres: EmbeddedPostgres, name: str) -> None:
        self.url = postgres.database_url(name)
        self.kills = 0
        self._postgres = postgres
        self._name = name
        self._deadlocks = 0
        self._reads: Pool
        self._own = WriteConnections(self.url, size=2, statement_timeout_s=60)

    @classmethod
    async def open(cls, postgres: EmbeddedPostgres, name: str, breaks: Iterable[str] = ()) -> Self:
        """Make the database and connect."""
        stage = cls(postgres, name)
        await _copy_template(postgres, name)
        connection = await asyncpg.connect(stage.url)
        for statement in (_STEPPED_CLOCK, _WATCH_LIMITS, _WATCH_ENDS, _CLOSE_MONTH, *breaks, GRANTS):
            await connection.execute(statement)
        await connection.close()
        stage.writes = CutConnections(stage.url, size=CONNECTIONS, statement_timeout_s=30)
        stage._reads = await open_pool(stage.url, size=4, statement_timeout_s=30, settings=MONEY_SETTINGS)
        stage.ledger = Ledger(stage.writes, stage._reads)
        stage.gathered = GatheredSteps(stage.ledger, lanes=3)
        return stage

    async def close(self) -> None:
        """End all connections; the database stays."""
        self.writes.terminate()
        self._own.terminate()
        self._reads.terminate()

    async def insist(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """The rows of a statement that may be done twice, whatever happens to the server meanwhile."""
        while True:
            try:
                return await self._own.fetch(query, *arguments)
            except StorageUnavailableError:
                await asyncio.sleep(REPEAT_S)

    async def now_us(self) -> int:
        """The time that steps are dated with."""
        return int((await self.insist("SELECT clock_us()"))[0][0])

    async def step_clock(self, by_us: int) -> None:
        """Put the clock forward or back."""
        ((offset_us,),) = await self.insist("SELECT offset_us FROM stepped_clock")
        await self.insist("UPDATE stepped_clock SET offset_us = $1", offset_us + by_us)

    async def close_month(self, period: int, ends_us: int) -> None:
        """Close a month as soon as it is over, and take its trial balance."""
        await self.insist("CALL close_month($1, $2)", period, ends_us)

    @contextlib.asynccontextmanager
    async def connected(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        """A plain connection, for what reads whole tables: its plans are PostgreSQL's own choice."""
        await self.insist("SELECT 1")
        connection = await asyncpg.connect(self.url)
        try:
            await prepare(connection)
            yield connection
        finally:
            connection.terminate()

    async def kill(self, rng: random.Random) -> None:
        """Every process at once, as a power cut does; or one backend, after which PostgreSQL restarts itself."""
        self._deadlocks += await self._read_deadlocks()
        self.kills += 1
        if rng.random() < 0.5:
            await asyncio.to_thread(self._postgres.kill)
            await asyncio.to_thread(self._postgres.start)
            return
        backends = [row[0] for row in await self.insist(_BACKENDS)]
        with contextlib.suppress(ProcessLookupError, IndexError):
            os.kill(rng.choice(backends), signal.SIGKILL)
        async with asyncio.timeout(_START_S_MAX):
            await self.insist("SELECT 1")

    async def count_deadlocks(self) -> int:
        """Deadlocks that PostgreSQL counted; after a crash it counts anew."""
        return self._deadlocks + await self._read_deadlocks()

    async def _read_deadlocks(self) -> int:
        return int((await self.insist(_DEADLOCKS))[0][0])
