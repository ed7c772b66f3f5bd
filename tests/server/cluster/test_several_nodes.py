"""Several real nodes on one database, without Redis: what one writes reaches the sessions of the others."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from protocol.bodies import TimelineEvent
from protocol.commands import Create, Send
from protocol.dialog_types import DialogType
from protocol.events import DialogState
from protocol.replies import Acked
from server.config.settings import ClusterSettings
from server.node import composition
from tests.support.harness import Running, Wire, configured, running

pytestmark = pytest.mark.anyio

SHARED = ClusterSettings(redis_urls=("redis://127.0.0.1:1",), lease_s=0.2)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes read the cluster a hundred times a second, not once."""
    monkeypatch.setattr(composition, "_HORIZON_INTERVAL_S", 0.01)


@contextlib.asynccontextmanager
async def nodes(url: str, count: int, *, lease_s: float = 10.0) -> AsyncIterator[list[Running]]:
    """So many nodes that share a database."""
    config = configured(cluster=ClusterSettings(redis_urls=("redis://127.0.0.1:1",), lease_s=lease_s))
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(url, config)) for _ in range(count)]


async def until_seq(wire: Wire, seq: int) -> list[int]:
    """The numbers of the events that come, up to this one."""
    seqs = [0]
    while seqs[-1] < seq:
        seqs.append((await wire.until(TimelineEvent)).seq)
    return seqs[1:]


@pytest.mark.usefixtures("quick")
async def test_what_one_node_writes_reaches_a_session_of_another(database_url: str) -> None:
    async with nodes(database_url, 2) as (one, two):
        ann, bo = await one.world.people(2)
        async with one.live(ann) as a, two.live(bo) as b:
            dialog = (await a.ask(Create(3, 1, DialogType.DIRECT, [bo.principal]))).dialog
            assert (await b.until(DialogState)).dialog == dialog
            for n in (2, 3):
                assert isinstance(await a.ask(Send(n + 2, dialog, n, b"hello")), Acked)
            assert (await until_seq(b, 3))[-2:] == [2, 3]
            assert isinstance(await b.ask(Send(9, dialog, 1, b"hello")), Acked)
            assert (await until_seq(a, 4))[-1] == 4
