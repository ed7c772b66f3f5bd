"""Two nodes on one database: the second is refused while the first serves, and takes its place when it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from pathlib import Path

import asyncpg
import pytest

from protocol.bodies import TimelineEvent
from protocol.close_codes import CloseCode
from protocol.commands import Send
from protocol.dialog_types import DialogType
from server.node.startup import explain
from storage.postgres import incarnations
from storage.postgres.functions import INCARNATION_LOCKS
from storage.unavailable import IncarnationEndedError
from tests.support.harness import configured, running
from tests.support.world import World

pytestmark = pytest.mark.anyio

_ENDED = "SELECT ended_at_ms FROM incarnations WHERE incarnation = $1"


async def test_a_second_process_is_refused_in_one_sentence_and_leaves_the_schema_to_the_first(
    database_url: str, tmp_path: Path
) -> None:
    first = await serve(database_url, tmp_path / "first")
    assert first.stdout is not None
    async for line in first.stdout:
        if b"listens on" in line:
            break
    database = await asyncpg.connect(database_url)
    await database.execute("UPDATE applied_functions SET digest = 'of another version'")
    second = await serve(database_url, tmp_path / "second")
    _, said = await second.communicate()
    assert second.returncode == 2
    (last,) = [line for line in said.decode().splitlines() if line.startswith("tchat:")]
    assert re.search(r"Node \S+ serves this database since 20\d\d-\d\d-\d\d .* stop it first", last)
    assert await database.fetchval("SELECT digest FROM applied_functions") == "of another version"
    await database.close()
    first.send_signal(signal.SIGTERM)
    assert await first.wait() == 0


async def test_a_node_that_waits_for_another_ones_statement_can_be_stopped(database_url: str, tmp_path: Path) -> None:
    database = await asyncpg.connect(database_url)
    await database.execute("INSERT INTO incarnations (node, started_at_ms) VALUES ('the one before', 1)")
    await database.execute("SELECT pg_advisory_lock_shared($1, incarnation::int) FROM incarnations", INCARNATION_LOCKS)
    waiting = await serve(database_url, tmp_path)
    while not await database.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
        pass
    waiting.send_signal(signal.SIGTERM)
    async with asyncio.timeout(20):  # it would wait for a minute
        await waiting.communicate()
    assert waiting.returncode == 0
    await database.close()


async def serve(url: str, folder: Path) -> asyncio.subprocess.Process:
    """`tchat serve` as a process of its own."""
    code = "from server.node.cli import main; raise SystemExit(main(['serve']))"
    environment = {
        **os.environ,
        "TCHAT__STORAGE__POSTGRES_URL": url,
        "TCHAT__SERVER__DATA_DIR": str(folder),
        "TCHAT__SERVER__PORT": "0",
        "TCHAT__SERVER__ADMIN_PORT": "0",
    }
    pipe = asyncio.subprocess.PIPE
    root = Path(__file__).parents[3]
    return await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=pipe, stderr=pipe, env=environment, cwd=root
    )


async def test_a_node_takes_the_place_of_another_after_its_last_statement(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(incarnations, "_LOOK_EVERY_S", 3600.0)
    async with contextlib.AsyncExitStack() as stack, contextlib.AsyncExitStack() as first:
        one = await first.enter_async_context(running(database_url, configured()))
        world = await World.open(database_url)
        stack.push_async_callback(world.close)
        ann, bo = await one.world.people(2)
        dialog = await one.world.create(DialogType.DIRECT, ann, bo)
        a = await stack.enter_async_context(one.live(ann))
        async with world.held(dialog):
            await a.send(Send(3, dialog, 10, b"late"))
            await world.until_a_flush_waits()
            await one.node._lock.release()  # as if it had been killed: its statement runs on
            opening = asyncio.ensure_future(stack.enter_async_context(running(database_url, configured())))
            while not await world.pool.fetchval(_ENDED, one.node.incarnation):
                pass
            assert not opening.done()
        two = await opening
        async with two.live(bo) as b:
            assert [event.seq for event in b.caught_up if isinstance(event, TimelineEvent)] == [1, 2]
        while one.node._works:  # its next look at the horizon ends it
            await two.world.read_horizon()
        await first.aclose()
        assert await a.close_code() == CloseCode.UNAVAILABLE


def test_a_node_that_was_replaced_says_so() -> None:
    said = explain(ExceptionGroup("a node", [ExceptionGroup("its lanes", [IncarnationEndedError()])]), None)
    assert said is not None
    assert said.startswith("Another node serves this database")
