"""The purge keeps the promises of retention, and goes on after an outage."""

import asyncio

import pytest

from protocol.kinds import DAY_MS
from server.config.settings import IdentitySettings
from server.identity.purge import INTERVAL_S, Purge
from storage.unavailable import StorageUnavailableError
from tests.support.clock import ManualClock

pytestmark = pytest.mark.anyio


class FakePeople:
    """A store with people whose deletion is due; remembers what it was asked."""

    def __init__(self, due: int) -> None:
        self.due = due
        self.asked: list[dict[str, int]] = []
        self.broken: Exception | None = None

    async def purge(self, now_ms: int, **until: int) -> tuple[int, bool]:
        if self.broken:
            raise self.broken
        self.asked.append({"now_ms": now_ms, **until})
        purged = min(self.due, until["limit"])
        self.due -= purged
        return purged, self.due > 0


def make_purge(people: FakePeople, clock: ManualClock, settings: IdentitySettings | None = None) -> Purge:
    return Purge(people, clock, settings or IdentitySettings())  # type: ignore[arg-type]  # only what it uses


async def test_all_that_is_due_is_purged_in_short_calls(clock: ManualClock) -> None:
    people = FakePeople(due=250)
    assert await make_purge(people, clock).purge_due() == 250
    assert len(people.asked) == 3


async def test_the_times_are_those_of_the_settings(clock: ManualClock) -> None:
    people = FakePeople(due=0)
    await make_purge(
        people, clock, IdentitySettings(deletion_grace_days=3, refresh_token_ttl_s=40 * 86_400)
    ).purge_due()
    now = clock.wall_ms()
    assert people.asked == [
        {
            "now_ms": now,
            "deleted_before_ms": now - 3 * DAY_MS,
            "ended_before_ms": now - 40 * DAY_MS,
            "audit_before_ms": now - 365 * DAY_MS,
            "limit": 100,
        }
    ]


@pytest.mark.parametrize("fault", [StorageUnavailableError("gone"), ValueError("a row that nobody expected")])
async def test_it_goes_on_after_an_error(clock: ManualClock, fault: Exception) -> None:
    people = FakePeople(due=1)
    people.broken = fault
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        people.broken = None
        if len(pauses) == 2:
            raise asyncio.CancelledError

    purge = Purge(people, clock, IdentitySettings(), pause)  # type: ignore[arg-type]  # only what it uses
    with pytest.raises(asyncio.CancelledError):
        await purge.run()
    assert pauses == [INTERVAL_S, INTERVAL_S]
    assert people.due == 0
