"""What an idle session owns. There are tens of thousands of them: each thing that one keeps is there so often."""

from __future__ import annotations

import gc
import sys
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from protocol.commands import Heartbeat, Send
from protocol.dialog_types import DialogType
from protocol.events import HeartbeatReply
from protocol.replies import Acked
from server.delivery.outbox import Outbox
from server.gateway.connection import Connection
from server.identity.claims import Claims
from server.session.session import Session
from tests.support.clock import ManualClock
from tests.support.harness import Running, running
from tests.support.turns import until

pytestmark = pytest.mark.anyio

BYTES_MAX = 700
"""As Python counts, without ids, times and the transport, of which each event loop has its own."""


@pytest.fixture
async def node(database_url: str) -> AsyncIterator[Running]:
    async with running(database_url, clock=ManualClock()) as node:
        yield node


def own_objects(one: Session, other: Session) -> list[object]:
    """What can be reached from a session, without its transport and what the other refers to at the same distance."""
    own: dict[int, object] = {id(one): one}
    left_out = {id(each) for it in (one, other) for each in (it, it.connection._transport)}
    new, twins = list(own.values()), [other]
    while new:
        shared = {id(each): each for each in gc.get_referents(*twins)}
        found = {id(each): each for each in gc.get_referents(*new)}
        new = [each for key, each in found.items() if key not in left_out | own.keys() | shared.keys()]
        twins = [each for key, each in shared.items() if key not in left_out]
        own |= {id(each): each for each in new}
    return list(own.values())


async def test_an_idle_session_owns_little_although_it_was_busy(node: Running) -> None:
    ann, bo = await node.world.people(2)
    dialog = await node.world.create(DialogType.DIRECT, ann, bo)
    async with node.live(ann) as a, node.live(bo) as b:
        for wire, n in ((a, 101), (b, 102)):
            assert isinstance(await wire.ask(Send(n, dialog, n, b"")), Acked)
            await wire.send(Heartbeat(0))
            await wire.until(HeartbeatReply)
        one, other = node.session_of(ann), node.session_of(bo)
        await until(lambda: not one.outbox and not other.outbox)
        own = own_objects(one, other)
    kinds = Counter(type(each) for each in own)
    sizes = {f"{kind.__name__} ({count})": count * kind.__basicsize__ for kind, count in kinds.items()}
    assert sum(map(sys.getsizeof, own)) <= BYTES_MAX, sizes
    assert set(kinds) - {int} == {Session, Connection, Outbox, Claims}
