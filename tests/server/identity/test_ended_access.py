"""Ended access: what any node ends, every node closes, once, with the right reason."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from protocol import ids
from protocol.close_codes import CloseCode
from server.identity.ended_access import EndedAccess
from storage.identity_rows import OpenedSignIn
from storage.postgres.pool import Pool, open_pool
from storage.rows import PrincipalStatus
from tests.support.api_world import ClosedSessions
from tests.support.identity_people import NOW, TENANT, IdentityStores, refresh, sign_in

pytestmark = pytest.mark.anyio


class Follower:
    """A node that follows what others end."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.stores = IdentityStores(pool)
        self.sessions = ClosedSessions()
        self.ended = EndedAccess(self.stores.sign_ins, self.sessions)

    async def follow(self) -> list[tuple[str, CloseCode]]:
        """Whose sessions are closed by the next reading."""
        await self.ended.follow()
        closed, self.sessions.closed = self.sessions.closed, []
        return closed


@pytest.fixture
async def follower(database_url: str) -> AsyncIterator[Follower]:
    pool = await open_pool(database_url, size=4, statement_timeout_s=30.0)
    follower = Follower(pool)
    await follower.ended.begin()
    yield follower
    await pool.close()


async def opened(follower: Follower) -> tuple[OpenedSignIn, bytes]:
    """A person who signs in, and the id of the sign-in."""
    mine = ids.new_id()
    return await sign_in(follower.stores, sign_in=mine), mine


async def test_a_sign_in_that_ends_on_any_node_is_closed_here_once(follower: Follower) -> None:
    nok, mine = await opened(follower)
    assert await follower.follow() == []
    await follower.stores.sign_ins.end(NOW, nok.principal, mine)
    assert await follower.follow() == [(ids.to_text(mine), CloseCode.SIGNED_OUT)]
    assert await follower.follow() == []


async def test_what_commits_after_a_later_one_was_read_is_not_skipped(follower: Follower) -> None:
    nok, mine = await opened(follower)
    _, other = await opened(follower)
    async with follower.pool.acquire() as connection:
        late = connection.transaction()
        await late.start()
        await connection.execute("UPDATE sign_ins SET revoked_at_ms = 1 WHERE sign_in_id = $1", mine)
        await follower.pool.execute("UPDATE sign_ins SET revoked_at_ms = 1 WHERE sign_in_id = $1", other)
        assert [who for who, _ in await follower.follow()] == [ids.to_text(other)]
        for _ in range(20):
            assert await follower.follow() == []
        await late.commit()
    assert [who for who, _ in await follower.follow()] == [ids.to_text(mine)]
    assert nok.principal


async def test_the_reason_goes_with_it(follower: Follower) -> None:
    token = b"token"
    nok = await sign_in(follower.stores, refresh=token, sign_in=(stolen := ids.new_id()))
    for successor in (b"one", b"other"):
        await refresh(follower.stores, token, successor, now=NOW + 1)
    replaced = ids.new_id()
    await sign_in(follower.stores, on=nok.device, sign_in=replaced)
    await sign_in(follower.stores, on=nok.device)
    assert await follower.follow() == [
        (ids.to_text(stolen), CloseCode.SIGNED_OUT),
        (ids.to_text(replaced), CloseCode.REPLACED),
    ]


@pytest.mark.parametrize(
    ("status", "code"),
    [(PrincipalStatus.SUSPENDED, CloseCode.SUSPENDED), (PrincipalStatus.DELETED, CloseCode.DELETED)],
)
async def test_who_is_suspended_or_deleted_is_closed(
    follower: Follower, status: PrincipalStatus, code: CloseCode
) -> None:
    nok, _ = await opened(follower)
    set_status = "UPDATE principals SET status = $2, deleted_at_ms = 1 WHERE principal_id = $1"
    await follower.pool.execute(set_status, nok.principal, status)
    assert await follower.follow() == [(ids.to_text(nok.principal), code)]
    await follower.stores.people.set_status(NOW, TENANT, nok.principal, nok.principal, PrincipalStatus.ACTIVE)
    assert await follower.follow() == []


async def test_what_ended_before_the_begin_is_left_to_the_snapshots(follower: Follower) -> None:
    nok, mine = await opened(follower)
    await follower.stores.sign_ins.end(NOW, nok.principal, mine)
    later = Follower(follower.pool)
    await later.ended.begin()
    assert await later.follow() == []


async def test_rows_are_kept_for_an_hour(follower: Follower, database: asyncpg.Connection[asyncpg.Record]) -> None:
    nok, mine = await opened(follower)
    await follower.stores.sign_ins.end(NOW, nok.principal, mine)
    [ended_at_ms] = [row["at_ms"] for row in await database.fetch("SELECT at_ms FROM ended_access")]
    for age_ms, kept in ((3_500_000, 1), (3_700_000, 0)):
        now_ms = ended_at_ms + age_ms
        await follower.stores.people.purge(now_ms, deleted_before_ms=0, ended_before_ms=0, audit_before_ms=0, limit=10)
        assert await database.fetchval("SELECT count(*) FROM ended_access") == kept
