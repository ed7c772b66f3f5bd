"""`tchat nodes` shows who serves, since when and in which version; `tchat doctor` says what is wrong with them."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import socket

import pytest

from server.node import cli
from server.node.doctor import examine
from server.node.finding import Finding
from server.node.nodes import as_text
from storage.postgres.nodes import PostgresNodes
from tests.support.harness import Running
from tests.support.world import World

pytestmark = pytest.mark.anyio


async def test_it_shows_the_node_that_serves(
    server: Running, database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TCHAT__STORAGE__POSTGRES_URL", database_url)
    assert await asyncio.to_thread(cli.main, ["nodes"]) == 0
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == ["incarnation", "node", "version", "since", "lease", "state", "work"]
    cells = first.split()
    assert cells[:3] == [str(server.node.incarnation), socket.gethostname(), importlib.metadata.version("tchat")]
    assert "serves" in cells
    assert await asyncio.to_thread(cli.main, ["nodes", "--json"]) == 0
    newest, *_ = json.loads(capsys.readouterr().out)
    assert (newest["incarnation"], newest["state"]) == (server.node.incarnation, "serves")


async def test_a_database_that_no_node_has_served_says_so() -> None:
    assert as_text([]).endswith("No node has served this database yet.")


async def examined(url: str) -> Finding:
    found = await asyncio.to_thread(examine, None, {"TCHAT__STORAGE__POSTGRES_URL": url})
    return next(finding for finding in found if finding.subject == "nodes")


async def test_the_doctor_names_who_serves(server: Running, database_url: str) -> None:
    del server
    finding = await examined(database_url)
    assert (finding.level, finding.text) == ("ok", f"serving this database: {socket.gethostname()}")


async def test_the_doctor_finds_what_stands_still_and_what_does_not_end(world: World, database_url: str) -> None:
    nodes = PostgresNodes(world.pool, world.pool)
    await nodes.read_cluster(incarnation=world.incarnation, since=0)
    finding = await examined(database_url)
    assert finding.is_problem
    assert f"test, incarnation {world.incarnation}, stands still" in finding.text
    await nodes.end(world.incarnation, lease=None)
    assert (await examined(database_url)).level == "ok"
    await world.pool.execute("UPDATE incarnations SET ended_at_ms = ended_at_ms - 60000")
    finding = await examined(database_url)
    assert finding.is_problem
    assert "a statement that it left running may still commit" in finding.text
