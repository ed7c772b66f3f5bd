"""Books are restored from a dump while the chat has gone on: what it was told is read back."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator

import asyncpg
import httpx
import pytest

from protocol.commerce.payment_notice import PaymentNotice
from protocol.commerce.payment_states import PaymentStep
from protocol.dialog_types import Mode
from protocol.ids import self_dialog_id
from server.relay.chat_api import ChatApi
from server.relay.read_back import ReadBack
from storage.commerce.announcements import Announcements
from storage.commerce.ledger import Ledger
from storage.commerce.money_rows import NewPaymentRow
from storage.commerce.restored_books import RestoredBooks
from storage.commerce.schema import MONEY_SCHEMA
from storage.embedded import dump
from storage.postgres.migrate import migrate
from tests.server.relay.between import Between
from tests.support.clock import ManualClock
from tests.support.money_world import HOUR_US, TENANT, MoneyWorld

pytestmark = pytest.mark.anyio


class KilledError(Exception):
    """The end of a relay."""


class Restored:
    """The books as they were, in another database, and a relay's reading of what was told since."""

    def __init__(self, between: Between, url: str, books: RestoredBooks) -> None:
        self.between, self.url, self.books = between, url, books
        self.chat = ChatApi("http://chat.test", lambda: between.key, connections=1, transport=between.network)

    async def read_back(self) -> int:
        """All of it; how many pages of dialogs."""
        reading = ReadBack(self.books, self.chat, TENANT)
        pages = 1
        while await reading.step():
            pages += 1
        return pages

    async def posts(self, looks: int = 4) -> int:
        """How many events a relay posts now."""
        before = len(self.between.network.posted())
        await self.between.announce(await self.between.relay(), looks)
        return len(self.between.network.posted()) - before


class Backup:
    """A dump of the books, and where it is loaded."""

    def __init__(self, between: Between, source: str, target: str) -> None:
        self._between, self._source, self._target = between, source, target
        self._file = io.BytesIO()

    async def make(self) -> None:
        """As the books are now."""
        await asyncio.to_thread(dump.dump, self._source, self._file, lambda _size: None)

    @contextlib.asynccontextmanager
    async def restored(self) -> AsyncIterator[Restored]:
        """From now on everybody uses the books of the backup."""
        self._file.seek(0)
        await asyncio.to_thread(dump.load, self._target, self._file, lambda _size: None)
        await migrate(self._target, schema=MONEY_SCHEMA)  # a dump brings no grants
        ledger = await Ledger.open(self._target, writes=4, reads=2, statement_timeout_s=30)
        database = await asyncpg.connect(self._target)
        await database.set_builtin_type_codec("uuid", schema="pg_catalog", codec_name="bytea", format="binary")
        books = await RestoredBooks.open(self._target, statement_timeout_s=30)
        self._between.money = MoneyWorld(ledger, database, first_key=1_000)
        self._between.url = self._target
        try:
            yield Restored(self._between, self._target, books)
        finally:
            await self._between.close()
            await self._between.money.close()
            await books.aclose()


@pytest.fixture
def backup(between: Between, money_url: str, empty_database_url: str) -> Backup:
    """Nothing is backed up yet."""
    return Backup(between, money_url, empty_database_url)


def highest(notices: list[PaymentNotice], new: NewPaymentRow) -> tuple[int, str | None]:
    """What a reader keeps of a payment."""
    shown = max((each for each in notices if each.payment.bytes == new.payment), key=lambda each: each.version)
    return shown.version, shown.state


def check_nothing_doubled(notices: list[PaymentNotice]) -> None:
    versions = [(each.payment, each.version) for each in notices]
    assert len(set(versions)) == len(versions)


async def test_after_a_restore_the_dialog_shows_the_state_in_the_books_above_all_that_was_told(
    between: Between, backup: Backup
) -> None:
    dialog, relay = await between.dialog(), await between.relay()
    known = await between.request(dialog)
    await between.announce(relay)
    await backup.make()
    await between.approve(known)
    await between.announce(relay)
    lost = await between.request(dialog)
    await between.announce(relay)
    await between.approve(lost)
    await between.announce(relay)
    async with backup.restored() as restored:
        assert await restored.posts() == 0
        assert not await restored.books.accept("a test")  # nothing was read back
        await restored.read_back()
        assert await restored.posts() == 0
        assert await restored.books.accept("a test")
        assert await restored.posts() == 6  # two payments, in the dialog and for both parties
        assert await restored.posts() == 0
        requests = [each for each in between.network.posted() if "requester" in each]
        for timeline in (dialog, self_dialog_id(between.ann.principal), self_dialog_id(between.bo.principal)):
            notices = await between.notices(timeline)
            assert highest(notices, known) == (3, "requested")
            assert highest(notices, lost) == (3, "cancelled")
            check_nothing_doubled(notices)
        assert {each.reason for each in await between.own_notices(between.ann) if each.version == 3} == {"restored"}
        await between.money.ledger.approve(
            between.money.key(),
            known.payer,
            TENANT,
            known.payment,
            version=3,
            amount=700,
            currency="THB",
            payee=known.payee,
        )
        await restored.posts()
        assert highest(await between.notices(dialog), known) == (4, "paid")
        assert [each for each in between.network.posted() if "requester" in each] == requests
        assert between.network.posted()[-1]["n"] > 1
        assert await between.money.balance(between.ann.principal) == 10_000 - 700


async def test_without_reading_back_readers_keep_what_is_not_in_the_books(between: Between, backup: Backup) -> None:
    """What the reconciliation is for: a run that skips it is noticed by what the test above compares."""
    dialog, relay = await between.dialog(), await between.relay()
    known = await between.request(dialog)
    await between.announce(relay)
    await backup.make()
    await between.approve(known)
    await between.announce(relay)
    async with backup.restored() as restored:
        await restored.books.settle(synchronous=False)
        await between.money.database.execute("UPDATE book_history SET noticed_us = NULL")
        await between.money.ledger.take_step(
            between.money.key(), known.payer, TENANT, known.payment, PaymentStep.DECLINE
        )
        await restored.posts()
        assert highest(await between.notices(dialog), known) == (2, "paid")  # and the books say declined


async def test_what_was_told_after_the_backup_and_is_in_it_is_not_announced_again(
    between: Between, backup: Backup
) -> None:
    dialog, relay = await between.dialog(), await between.relay()
    waiting = await between.request(dialog)  # in the outbox
    numbered = await between.request(dialog)
    await backup.make()
    await between.announce(relay)
    async with backup.restored() as restored:
        await restored.read_back()
        assert await restored.books.accept("a test")
        assert await restored.posts() == 0
        for new in (waiting, numbered):
            assert highest(await between.notices(dialog), new) == (1, "requested")
        check_nothing_doubled(await between.notices(dialog))


async def test_what_had_a_number_in_the_backup_is_repeated_under_it(between: Between, backup: Backup) -> None:
    dialog, relay = await between.dialog(), await between.relay()
    new = await between.request(dialog, request_us=9 * HOUR_US)
    store = await Announcements.open(between.url, TENANT, writes=1, statement_timeout_s=30)
    await store.spread(100)
    await store.lease(100, rows=9, lease_us=HOUR_US)
    await store.aclose()
    await backup.make()
    await between.lease_ends()
    await between.announce(relay)
    async with backup.restored() as restored:
        await between.lease_ends()
        await restored.read_back()
        assert await restored.books.accept("a test")
        assert await restored.posts() == 3
        assert {each["n"] for each in between.network.posted()} == {1}
        check_nothing_doubled(await between.notices(dialog))
        await between.approve(new)
        await restored.posts()
        assert highest(await between.notices(dialog), new) == (2, "paid")


async def test_of_a_sealed_dialog_the_payment_is_known_from_the_parties_own(between: Between, backup: Backup) -> None:
    dialog, relay = await between.dialog(Mode.SEALED), await between.relay()
    await backup.make()
    lost = await between.request(dialog)
    await between.announce(relay)
    async with backup.restored() as restored:
        await restored.read_back()
        (told,) = [each async for each in restored.books.list_open()]
        assert (told.payment, told.version, told.amount, told.currency) == (lost.payment, None, 700, "THB")
        assert await restored.books.accept("a test")
        assert await restored.posts() == 3
        assert highest(await between.notices(dialog), lost) == (2, None)
        assert highest(await between.own_notices(between.ann), lost) == (2, "cancelled")


async def test_a_reading_that_is_cut_short_goes_on(
    between: Between, backup: Backup, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.identity.service_accounts._DIALOGS_PER_PAGE", 2)
    monkeypatch.setattr("server.identity.service_accounts._EVENTS_PER_PAGE", 1)
    relay, dialogs = await between.relay(), [await between.dialog() for _ in range(3)]
    await backup.make()
    lost = [await between.request(dialog) for dialog in dialogs for _ in range(2)]
    await between.announce(relay)
    asked = kills = 0

    async def kill(request: httpx.Request) -> httpx.Response | None:
        nonlocal asked
        asked += request.method == "GET"
        if request.method == "GET" and asked % 8 == 0:
            raise KilledError
        return None

    async with backup.restored() as restored:
        between.network.interfere = kill
        while await restored.books.begin_reading(TENANT) is not None:
            clock.advance(60)  # requests are not too many at once
            try:
                await ReadBack(restored.books, restored.chat, TENANT).step()
            except KilledError:  # another process goes on
                kills += 1
        assert kills > 2
        between.network.interfere = None
        assert {each.payment async for each in restored.books.list_open()} == {each.payment for each in lost}
        assert await restored.books.accept("a test")
        assert await restored.posts() == 18
        for dialog in dialogs:
            check_nothing_doubled(await between.notices(dialog))


async def test_a_chat_that_refuses_for_now_is_asked_the_same_again(between: Between, backup: Backup) -> None:
    dialog, relay = await between.dialog(), await between.relay()
    await backup.make()
    lost = await between.request(dialog)
    await between.announce(relay)
    pauses: list[float] = []

    async def refuse(_request: httpx.Request) -> httpx.Response | None:
        if len(pauses) < 3:
            return httpx.Response(429, stream=httpx.ByteStream(b'{"code": "rate_limited", "retry_after_s": 7}'))
        return None

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async with backup.restored() as restored:
        between.network.interfere = refuse
        assert not await ReadBack(restored.books, restored.chat, TENANT, sleep=pause).step()
        assert pauses == [7, 7, 7]
        assert [each.payment async for each in restored.books.list_open()] == [lost.payment]


async def test_two_relays_read_back_the_same(between: Between, backup: Backup) -> None:
    dialog, relay = await between.dialog(), await between.relay()
    await backup.make()
    lost = [await between.request(dialog) for _ in range(5)]
    await between.announce(relay)
    async with backup.restored() as restored:
        await asyncio.gather(restored.read_back(), restored.read_back())
        assert {each.payment async for each in restored.books.list_open()} == {each.payment for each in lost}
        accepted = await asyncio.gather(restored.books.accept("one"), restored.books.accept("two"))
        assert True in accepted
        assert await restored.posts() == 15
        check_nothing_doubled(await between.notices(dialog))
