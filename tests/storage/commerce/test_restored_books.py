"""Books in another history than before are read-only, whoever asks; what was told is noted, and reconciled once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from protocol.commerce.payment_states import PaymentState, PaymentStep
from protocol.ids import NIL, new_id
from storage.commerce.announcements import Announcements
from storage.commerce.ledger import Ledger
from storage.commerce.money_rows import CaptureStep, HoldStep, Leg, NewPaymentRow, Purpose, TransferReason, account_id
from storage.commerce.personal_exports import ExportRow, PersonalExports
from storage.commerce.personal_records import PersonalRecords
from storage.commerce.personal_rows import ItemKind, KeyKind, NewItem
from storage.commerce.restored_books import Acceptance, RestoredBooks, ToldVersion
from storage.commerce.schema import RECONCILING_SETTINGS
from storage.commerce.spent_step_ups import SpentStepUps
from storage.commerce.terms import Terms
from storage.postgres.write_connections import WriteConnections
from storage.unavailable import BooksReadOnlyError, NothingWrittenError, StorageUnavailableError
from tests.support.money_world import HOUR_US, TENANT, MoneyWorld

pytestmark = pytest.mark.anyio

PROMOTED = "timeline_id = timeline_id - 1"
OTHER_CLUSTER = "system_identifier = 7"
LOADED_AGAIN = "table_oid = 7"
UNREAD = Acceptance(without_tenants=[TENANT])
"""There is no chat."""
GATEWAYS = """
CREATE TABLE IF NOT EXISTS gateway_cursors
    (gateway text PRIMARY KEY, read_ms bigint NOT NULL, lease int NOT NULL DEFAULT 0, due_us bigint NOT NULL);
GRANT SELECT ON gateway_cursors TO tchat_commerce
"""


@pytest.fixture
async def books(money_url: str) -> AsyncIterator[RestoredBooks]:
    opened = await RestoredBooks.open(money_url, statement_timeout_s=30)
    yield opened
    await opened.aclose()


@pytest.fixture
async def announcements(money_url: str) -> AsyncIterator[Announcements]:
    opened = await Announcements.open(money_url, TENANT, writes=2, statement_timeout_s=30)
    yield opened
    await opened.aclose()


async def change_history(money: MoneyWorld, what: str) -> None:
    """As if another PostgreSQL process had served the books last, in a history that differs by this."""
    await money.database.execute(
        f"UPDATE book_history SET started_at = started_at - interval '1 hour', {what} WHERE noticed_us IS NULL"
    )


async def asked(money: MoneyWorld, **more: Any) -> NewPaymentRow:
    new = money.payment(await money.open_person(10_000), await money.open_person(), 700, dialog=new_id(), **more)
    await money.request(new)
    return new


def told(new: NewPaymentRow, version: int, state: PaymentState | None = PaymentState.PAID, n: int = 9) -> ToldVersion:
    """What an open dialog says; without a state what a sealed one says."""
    if state is None:
        return ToldVersion(payment=new.payment, version=version, n=n)
    return ToldVersion(
        payment=new.payment,
        version=version,
        n=n,
        state=state,
        payer=new.payer,
        payee=new.payee,
        currency=new.currency,
        amount=new.amount,
    )


async def count_written(money: MoneyWorld) -> list[int]:
    tables = ("keys", "transfers", "payments", "payment_versions", "outbox", "accounts", "quotes", "audit", "periods")
    return [await money.database.fetchval(f"SELECT count(*) FROM {table}") for table in tables]


async def test_another_process_of_the_same_history_changes_nothing(money: MoneyWorld, books: RestoredBooks) -> None:
    new = await asked(money)
    await change_history(money, "table_oid = table_oid")
    assert (await money.send(money.payment(new.payer, new.payee, 1))).outcome == 1
    assert (await books.read()).noticed_us is None


@pytest.mark.parametrize("what", [PROMOTED, OTHER_CLUSTER, LOADED_AGAIN])
async def test_another_history_is_noticed_by_the_first_step_and_the_step_is_not_taken(
    money: MoneyWorld, books: RestoredBooks, what: str
) -> None:
    new = await asked(money)
    newest = await money.database.fetchval("SELECT max(at_us) FROM keys")
    await change_history(money, what)
    before = await count_written(money)
    with pytest.raises(BooksReadOnlyError):
        await money.send(money.payment(new.payer, new.payee, 1))
    state = await books.read()
    assert state.noticed_us is not None
    assert state.known_us == newest
    assert await count_written(money) == before


Step = Callable[[MoneyWorld, NewPaymentRow], Awaitable[object]]


async def hold_two(money: MoneyWorld, new: NewPaymentRow) -> object:
    held = [money.payment(new.payer, new.payee, 1, later=True) for _ in range(2)]
    return await money.ledger.hold_many([HoldStep(money.key(), new.payer, each) for each in held])


async def post(money: MoneyWorld, new: NewPaymentRow) -> object:
    leg = Leg(new.from_account, new.to_account, 1)
    return await money.ledger.post_chain(money.key(), TENANT, new_id(), TransferReason.TRANSFER, [leg])


STEPS: dict[str, Step] = {
    "send": lambda money, new: money.send(money.payment(new.payer, new.payee, 1)),
    "request": lambda money, new: money.request(money.payment(new.payer, new.payee, 1)),
    "approve": lambda money, new: money.ledger.approve(
        money.key(), new.payer, TENANT, new.payment, version=1, amount=700, currency="THB", payee=new.payee
    ),
    "decline": lambda money, new: money.ledger.take_step(
        money.key(), new.payer, TENANT, new.payment, PaymentStep.DECLINE
    ),
    "refund": lambda money, new: money.ledger.refund(money.key(), new.payee, TENANT, new.payment),
    "chain": post,
    "holds": hold_two,
    "captures": lambda money, new: money.ledger.capture_many(
        [CaptureStep(money.key(), NIL, TENANT, new.payment), CaptureStep(money.key(), NIL, TENANT, new_id())]
    ),
    "dispute": lambda money, new: money.ledger.dispute(
        money.key(),
        NIL,
        TENANT,
        new.payment,
        PaymentStep.DISPUTE,
        clearing=account_id(TENANT, NIL, "THB", Purpose.CLEARING),
    ),
    "what cannot be refused": lambda money, new: money.ledger.take_anyway(
        money.key(), TENANT, new_id(), TransferReason.TRANSFER, Leg(new.from_account, new.to_account, 1)
    ),
    "a wallet": lambda money, _: money.ledger.open_wallet(TENANT, new_id(), "THB"),
    "a month": lambda money, _: money.ledger.close_period(197_001, 1),
}


@pytest.mark.parametrize("step", STEPS)
async def test_while_the_books_are_read_only_no_step_writes(money: MoneyWorld, step: str) -> None:
    new = await asked(money)
    await change_history(money, PROMOTED)
    before = await count_written(money)
    for _ in range(2):  # the first notices it, and neither is taken
        with pytest.raises(NothingWrittenError):
            await STEPS[step](money, new)
    assert await count_written(money) == before


async def test_while_the_books_are_read_only_a_key_may_be_used_again_later(
    money: MoneyWorld, books: RestoredBooks
) -> None:
    new = await asked(money)
    await change_history(money, PROMOTED)
    sent, key = money.payment(new.payer, new.payee, 5), money.key()
    with pytest.raises(BooksReadOnlyError):
        await money.send(sent, key)
    assert await books.accept("a test", UNREAD)
    assert (await money.send(sent, key)).subject == sent.payment
    assert await money.balance(new.payee) == 5


async def test_a_due_payment_is_read_as_the_books_have_it_and_expires_when_they_serve(
    money: MoneyWorld, books: RestoredBooks
) -> None:
    new = await asked(money, request_us=HOUR_US)
    await money.step_clock(2 * HOUR_US)
    await change_history(money, PROMOTED)
    for _ in range(2):
        read = await money.ledger.read_payment(new.payment)
        assert read is not None
        assert (read.state, read.version) == (PaymentState.REQUESTED, 1)
    assert await books.accept("a test", UNREAD)
    read = await money.ledger.read_payment(new.payment)
    assert read is not None
    assert (read.state, read.version) == (PaymentState.EXPIRED, 2)


async def test_while_the_books_are_read_only_nothing_is_announced(
    money: MoneyWorld, books: RestoredBooks, announcements: Announcements
) -> None:
    await asked(money)
    await announcements.spread(100)
    await asked(money)
    await change_history(money, PROMOTED)
    assert await announcements.spread(100) == 0
    assert await announcements.lease(100, rows=9, lease_us=HOUR_US) == []
    assert not await announcements.repeat(1, within_us=HOUR_US, limit=100)
    assert not await books.accept("a test")  # somebody may have been told more
    assert await books.begin_reading(TENANT) == NIL
    await books.note_reading(TENANT, None)
    assert await books.accept("a test")
    assert await announcements.spread(100) > 0
    assert len(await announcements.lease(100, rows=9, lease_us=HOUR_US)) == 6


async def test_a_failover_that_is_declared_synchronous_goes_on_and_a_restore_does_not(
    money: MoneyWorld, books: RestoredBooks
) -> None:
    new = await asked(money)
    await change_history(money, PROMOTED)
    assert (await books.settle(synchronous=True)).noticed_us is None
    assert (await money.send(money.payment(new.payer, new.payee, 1))).outcome == 1
    await change_history(money, OTHER_CLUSTER)
    assert (await books.settle(synchronous=True)).noticed_us is not None


async def test_a_second_restore_is_read_back_from_the_beginning(money: MoneyWorld, books: RestoredBooks) -> None:
    await asked(money)
    await change_history(money, PROMOTED)
    assert await books.begin_reading(TENANT) == NIL
    await books.note_reading(TENANT, new_id())
    await books.note_reading(TENANT, None)
    assert await books.begin_reading(TENANT) is None
    await money.database.execute("UPDATE book_history SET started_at = NULL, timeline_id = timeline_id - 1")
    assert (await books.settle(synchronous=False)).unread == [TENANT]
    assert await books.begin_reading(TENANT) == NIL


async def test_books_are_not_accepted_while_something_is_unread(money: MoneyWorld, books: RestoredBooks) -> None:
    await asked(money)
    await change_history(money, PROMOTED)
    await books.begin_reading(TENANT)
    assert not await books.accept("a test")
    await books.note_reading(TENANT, None)
    assert await books.accept("a test")
    audited = await money.database.fetchval("SELECT detail FROM audit WHERE action = 'accept_books'")
    assert audited.startswith("a test noticed_us ")


async def test_a_payment_of_which_more_was_told_gets_a_version_above_it_once(
    money: MoneyWorld, books: RestoredBooks
) -> None:
    new = await asked(money)
    await change_history(money, PROMOTED)
    await books.begin_reading(TENANT)
    assert new.dialog is not None
    for _ in range(2):  # a page whose answer was lost is noted again
        await books.note_told(
            TENANT, is_self=False, subject=new.dialog, told=[told(new, 4), told(new, 2, n=8)], last_n=9
        )
    assert [(each.payment, each.told_version, each.version) async for each in books.list_open()] == [
        (new.payment, 4, 1)
    ]
    await books.note_reading(TENANT, None)
    for _ in range(2):
        assert await books.accept("a test")
    read = await money.ledger.read_payment(new.payment)
    assert read is not None
    assert (read.state, read.version) == (PaymentState.REQUESTED, 5)
    assert [row.version for row in await money.ledger.read_versions(new.payment)] == [1, 5]
    approved = await money.ledger.approve(
        money.key(), new.payer, TENANT, new.payment, version=5, amount=700, currency="THB", payee=new.payee
    )
    assert approved.version == 6


async def test_a_payment_that_the_books_do_not_know_is_booked_as_cancelled_and_moves_nothing(
    money: MoneyWorld, books: RestoredBooks
) -> None:
    known = await asked(money)
    lost = money.payment(known.payer, known.payee, 900, dialog=new_id())
    nameless = money.payment(known.payer, known.payee, 900, dialog=new_id())
    before = await money.database.fetchval("SELECT count(*) FROM transfers")
    await change_history(money, PROMOTED)
    await books.begin_reading(TENANT)
    for new, state in ((lost, PaymentState.PAID), (nameless, None)):
        assert new.dialog is not None
        await books.note_told(TENANT, is_self=False, subject=new.dialog, told=[told(new, 2, state)], last_n=9)
    await books.note_reading(TENANT, None)
    assert await books.accept("a test")
    read = await money.ledger.read_payment(lost.payment)
    assert read is not None
    assert (read.state, read.version, read.amount, read.captured) == (PaymentState.CANCELLED, 3, 900, 0)
    assert (read.dialog, read.payer, read.payee) == (lost.dialog, lost.payer, lost.payee)
    assert await money.ledger.read_payment(nameless.payment) is None
    assert await money.database.fetchval("SELECT count(*) FROM transfers") == before


async def test_what_was_told_while_the_books_serve_is_not_noted(money: MoneyWorld, books: RestoredBooks) -> None:
    new = await asked(money)
    assert new.dialog is not None
    await books.note_told(TENANT, is_self=False, subject=new.dialog, told=[told(new, 4)], last_n=9)
    assert [each async for each in books.list_open()] == []
    assert await books.read_numbers(TENANT, [new.dialog]) == {}


async def test_what_the_platform_sets_waits_too(money: MoneyWorld) -> None:
    terms = Terms(money.ledger._writes, money.ledger._reads)
    await change_history(money, PROMOTED)
    with pytest.raises(StorageUnavailableError):
        await terms.set_fee_rule(money.key(), NIL, TENANT, owner=NIL, currency="THB", basis_points=1, fixed=0)


async def test_while_the_books_are_read_only_nothing_else_is_written(money: MoneyWorld, books: RestoredBooks) -> None:
    """What is no step: personal keys, parts of exports, step-ups, and what is forgotten or ends in time."""
    writes, reads = money.ledger._writes, money.ledger._reads
    records, exports, terms = PersonalRecords(writes, reads), PersonalExports(writes, reads), Terms(writes, reads)
    new, key_id, export = await asked(money), new_id(), new_id()
    assert await records.name_key(TENANT, new.payer, KeyKind.LEGAL, key_id) == key_id
    await records.put_item(
        money.key(),
        new.payer,
        TENANT,
        new.payer,
        NewItem(item=new_id(), kind=ItemKind.IDENTITY, key_id=key_id, sealed=b"s", most=1, keep_us=1),
    )
    await money.database.execute("UPDATE personal_items SET keep_until = 1")
    row = ExportRow(export, TENANT, new.payer, key_id, 0, HOUR_US, 0, "{}")
    await exports.begin(money.key(), row)
    await change_history(money, OTHER_CLUSTER)
    await books.settle(synchronous=False)
    refused: list[Callable[[], Awaitable[object]]] = [
        lambda: records.name_key(TENANT, new.payee, KeyKind.PROFILE, new_id()),
        lambda: exports.add_part(export, 0, b"part", None),
        lambda: terms.ensure_reference(TENANT, "XAU"),
        lambda: SpentStepUps(writes).spend(new_id(), new_id()),
    ]
    tables = ("personal_keys", "personal_items", "export_parts", "reference_rates", "spent_step_ups")

    async def count() -> list[int]:
        kept = await money.database.fetchval("SELECT count(*) FROM keys WHERE subject IS NOT NULL")
        return [kept] + [await money.database.fetchval(f"SELECT count(*) FROM {table}") for table in tables]

    before = await count()
    for step in refused:
        with pytest.raises(NothingWrittenError):
            await step()
    assert await records.end_kept_items(10) == await money.ledger.forget_answers(-HOUR_US, 10) == 0
    assert await count() == before
    assert await books.accept("a test", UNREAD)
    for step in refused:
        assert await step() is not False
    assert await records.end_kept_items(10) == 1
    assert await money.ledger.forget_answers(-HOUR_US, 100) > 0


async def test_restored_books_serve_when_the_changes_of_gateways_since_are_applied(
    money: MoneyWorld, money_url: str, books: RestoredBooks
) -> None:
    new = await asked(money)
    await money.database.execute(GATEWAYS)
    await money.database.execute("DELETE FROM gateway_cursors")
    await money.database.execute(
        "INSERT INTO gateway_cursors (gateway, read_ms, lease, due_us) VALUES ('fake', clock_us() / 1000, 4, 9)"
    )
    await change_history(money, PROMOTED)
    applying = await Ledger.open(money_url, writes=1, reads=1, statement_timeout_s=30)
    applying._writes = WriteConnections(money_url, size=1, statement_timeout_s=30, settings=RECONCILING_SETTINGS)
    payment = money.payment(new.payer, new.payee, 5)
    with pytest.raises(BooksReadOnlyError):  # not before they are reconciled with what was told
        await applying.begin(money.key(), new.payer, PaymentStep.SEND, payment)
    assert not await books.accept("a test", UNREAD)
    state = await books.read()
    assert (state.behind, state.unread) == (["fake"], [])
    cursor = await money.database.fetchrow("SELECT read_ms, lease, due_us FROM gateway_cursors")
    assert state.known_us is not None
    assert cursor is not None
    assert tuple(cursor) == (state.known_us // 1000 - 3_600_000, 5, 0)
    assert (await applying.begin(money.key(), new.payer, PaymentStep.SEND, payment)).outcome == 1
    with pytest.raises(BooksReadOnlyError):  # it is for gateways alone
        await money.send(money.payment(new.payer, new.payee, 6))
    assert not await books.accept("a test", UNREAD)
    assert await money.database.fetchval("SELECT lease FROM gateway_cursors") == 5  # it is read again once
    await money.database.execute("UPDATE gateway_cursors SET read_ms = clock_us() / 1000 + 1")
    assert await books.accept("a test", UNREAD)
    assert (await money.send(money.payment(new.payer, new.payee, 6))).outcome == 1
    await applying.aclose()


async def test_books_of_which_nothing_was_read_back_are_accepted_only_by_who_says_so(
    money: MoneyWorld, books: RestoredBooks
) -> None:
    """The backup is older than all that the chat was told: the books know no place."""
    await asked(money)
    await change_history(money, OTHER_CLUSTER)
    await books.settle(synchronous=False)
    assert (await books.read([TENANT, 5])).unread == [TENANT, 5]
    assert not await books.accept("a test")
    assert not await books.accept("a test", Acceptance(tenants=[TENANT, 5], without_tenants=[5]))
    await books.begin_reading(TENANT)
    await books.note_reading(TENANT, None)
    assert not await books.accept("a test", Acceptance(tenants=[TENANT, 5]))
    assert await books.accept("a test", Acceptance(tenants=[TENANT, 5], without_tenants=[5]))
    audited = await money.database.fetchval("SELECT detail FROM audit WHERE action = 'accept_books'")
    assert audited.endswith(" without_tenants 5")


async def test_a_gateway_that_is_configured_no_more_is_left_out_by_name(
    money: MoneyWorld, books: RestoredBooks
) -> None:
    await money.database.execute(GATEWAYS)
    await money.database.execute(
        "INSERT INTO gateway_cursors (gateway, read_ms, due_us) VALUES ('closed', 1, 0), ('fake', 1, 0)"
    )
    await change_history(money, OTHER_CLUSTER)
    without = Acceptance(without_tenants=[TENANT], without_gateways=["closed"])
    assert not await books.accept("a test", without)
    await money.database.execute("UPDATE gateway_cursors SET read_ms = clock_us() / 1000 + 1 WHERE gateway = 'fake'")
    assert not await books.accept("a test", UNREAD)
    assert (await books.read()).behind == ["closed"]
    assert await books.accept("a test", without)
    audited = await money.database.fetchval("SELECT detail FROM audit WHERE action = 'accept_books'")
    assert audited.endswith(f" without_tenants {TENANT} without_gateways closed")
