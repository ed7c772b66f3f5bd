"""No statement reads a whole table, whatever the tables looked like when it was planned."""

from __future__ import annotations

import inspect
from typing import Any

import asyncpg
import msgspec
import pytest

from protocol import bodies
from protocol.dialog_types import DialogType, Mode
from protocol.ids import NIL, new_id
from protocol.kinds import Kind
from storage.identity_rows import KeyGrants, Outcome, ProfileChange, WhoMayAdd
from storage.local.archive import LocalArchive
from storage.postgres.accounts import AccountStore
from storage.postgres.archived_timelines import ArchivedTimelines
from storage.postgres.backups import PostgresBackups
from storage.postgres.deleted_dialogs import PostgresDeletedDialogs
from storage.postgres.device_messages import PostgresDeviceMessages
from storage.postgres.journal import CHANGE_QUERIES, PostgresJournal
from storage.postgres.nodes import PostgresNodes
from storage.postgres.payment_calls import PaymentCall, PaymentCalls
from storage.postgres.people import PeopleStore
from storage.postgres.pool import open_pool
from storage.postgres.purged_authors import PostgresPurgedAuthors
from storage.postgres.reports import PostgresReports
from storage.postgres.sealed_rosters import PostgresSealedRosters
from storage.postgres.service_accounts import ServiceAccountStore
from storage.postgres.shares import PostgresShares
from storage.postgres.sign_ins import SignInStore
from storage.postgres.timeline_rows import ROW_COLUMNS, make_row
from storage.postgres.timelines import PostgresTimelines
from storage.postgres.webhooks import WebhookStore
from storage.rows import ChangeEntry, PrincipalStatus, PrincipalType, ReceiptRow, VerdictCode
from tests.storage.postgres.exercise_keys import exercise_encryption
from tests.storage.postgres.filled_tables import FILL, FILLED
from tests.support.accounts import exercise_accounts
from tests.support.archiving import drop_rows
from tests.support.identity_people import (
    DAY,
    NOW,
    TENANT,
    IdentityStores,
    guess,
    phone,
    purge,
    refresh,
    sign_in,
    sign_in_by_issuer,
)
from tests.support.world import Person, World, edit, message, reaction

pytestmark = pytest.mark.anyio

STORES = (
    PostgresJournal,
    PostgresTimelines,
    PostgresNodes,
    PostgresShares,
    PostgresSealedRosters,
    PostgresDeviceMessages,
    PostgresReports,
    PostgresBackups,
    SignInStore,
    PeopleStore,
    ServiceAccountStore,
    AccountStore,
    WebhookStore,
    PaymentCalls,
)

SMALL = {
    "applied_functions",
    "archiving",
    "deployment",
    "dialog_types",
    "incarnations",
    "leases",
    "migrations",
    "tenants",
    "trimming",
}
"""Tables of a few rows, in any deployment."""


class Recorder:
    """Passes calls on and keeps the names of the methods that were called."""

    def __init__(self, subject: Any, called: set[str]) -> None:
        self._subject = subject
        self._called = called

    def __getattr__(self, name: str) -> Any:
        self._called.add(name)
        return getattr(self._subject, name)


def methods_of(store: type) -> set[str]:
    """The names of its public methods."""
    return {name for name, _ in inspect.getmembers(store, inspect.isfunction) if not name.startswith("_")}


async def exercise_timelines(world: World) -> None:
    """Call everything that reads and writes timelines, each change included."""
    ann, bo, cy, di = await world.people(4)
    home, group = await world.create(DialogType.SELF, ann), await world.create(DialogType.GROUP, ann, bo, cy)
    direct = await world.create(DialogType.DIRECT, ann, bo)
    applied = set()

    async def change(dialog: bytes, author: Person, body: bodies.Body) -> None:
        result = await world.change(ChangeEntry(dialog, author.principal, author.device, author.n(), body))
        assert result.verdict.code is VerdictCode.OK, (body, result)
        applied.add(type(body))

    sent = [message(group, ann), message(direct, bo), message(group, bo)]
    assert {verdict.code for verdict in await world.flush(*sent)} == {VerdictCode.OK}
    assert {verdict.code for verdict in await world.flush(*sent, wait=True)} == {VerdictCode.DUPLICATE}
    assert (await world.say(direct, bo)).code is VerdictCode.OK
    other = message(group, ann, "other", n=sent[0].n)
    assert (await world.flush(other))[0].code is VerdictCode.CONFLICT
    await world.flush(edit(group, ann, 2), reaction(group, bo, 2), message(group, bo, reply_to=2))
    await change(group, ann, bodies.MembersAdded([di.principal]))
    await change(group, ann, bodies.Promoted(bo.principal))
    await change(group, ann, bodies.Demoted(bo.principal))
    await change(group, ann, bodies.SettingsChanged("name", "", "", bodies.Settings()))
    await change(group, ann, bodies.Pinned(2))
    await change(group, ann, bodies.Deleted(2))
    await change(group, ann, bodies.MemberRemoved(cy.principal))
    await change(home, ann, bodies.Muted(group, 1))
    await change(home, ann, bodies.Blocked(di.principal))
    await change(home, ann, bodies.Unblocked(di.principal))
    sealed = await world.create(DialogType.GROUP, ann, bo, cy, mode=Mode.SEALED)
    await change(sealed, ann, bodies.DevicesChanged(ann.principal, bodies.LogHead(1, 2, bytes(32))))
    await change(home, ann, bodies.ProfileChanged())
    home_of_cy = await world.create(DialogType.SELF, cy)
    await change(home_of_cy, ann, bodies.Invited(group, ann.principal, DialogType.GROUP, "name"))
    await change(home_of_cy, cy, bodies.Declined(group))
    assert (await world.try_create(DialogType.DIRECT, bo, ann))[0].verdict.code is VerdictCode.DUPLICATE
    me, reads = ann.principal, world.timelines
    await world.raise_receipts(ReceiptRow(direct, me, 2, 2), ReceiptRow(group, bo.principal, 2, 2))
    await world.read_horizon()
    await world.journal.find_oldest_writer()
    await world.journal.overtake(0, incarnation=world.incarnation)
    for since in (None, 1):
        taken = await reads.take_snapshot(me, ann.sign_in, since, window=9, events_max=999)
        await reads.read_snapshot_page(me, msgspec.structs.replace(taken.page, after=NIL))
    await reads.read_dialogs(cy.principal, [group, direct])
    await reads.read_events(me, [(group, 1, 99), (direct, 1, 99)], limit=9)
    await reads.read_newest(me, group, 1, 99, limit=9)
    for newest_first in (False, True):
        await reads.read_later(me, group, 1, 3, newest_first=newest_first)
    await reads.read_missed(me, group, 1, 99, limit=9)
    await reads.find_held([group])
    await reads.read_roster(group)
    assert set(await reads.find_removed(group, 1, 99)) == {cy.principal}
    await reads.read_members(me, [group, direct], after=NIL, limit=9)
    await reads.find_direct_peers(me, [bo.principal, cy.principal])
    await exercise_nodes(world, group)
    await change(group, ann, bodies.MemberLeft())
    await change(group, bo, bodies.DialogDeleted())
    deleted = PostgresDeletedDialogs(world.pool)
    while (step := await deleted.purge_some(2**50, grace_ms=1, limit=3)).more:
        if step.ended is not None:
            await deleted.finish(step.ended, 2**50, grace_ms=1)
    while (await world.journal.erase_due(NOW, limit=10)).more:
        pass
    assert applied | {bodies.DialogCreated} == set(CHANGE_QUERIES)


async def exercise_purged_authors(world: World) -> None:
    """Erase what a person wrote, some of which has left the journal, in a dialog where others wrote much."""
    ann, bo, cy = await world.people(3)
    dialog = await world.create(DialogType.GROUP, bo, ann, cy)
    await world.pool.execute(
        "INSERT INTO journal (dialog_id, seq, author_id, device_id, n, tag, at_ms, messages, incarnation, flush_no,"
        " body) SELECT $1, -g, $2, $3, g, 1, 0, 0, 1, 1, 'body' FROM generate_series(1, $4) g",
        dialog,
        bo.principal,
        bo.device,
        FILLED,
    )
    await world.flush(message(dialog, ann), message(dialog, ann, kind=Kind.PAYMENT), reaction(dialog, ann, 2))
    await world.pool.execute("INSERT INTO left_numbers VALUES ($1, 0)", ann.device)
    await world.chooses(ann, None)
    await world.pool.execute("SELECT purge_person(1, $1, 100)", ann.principal)
    authors, reads = PostgresPurgedAuthors(world.pool), 0
    while (step := await authors.erase_some(NOW, limit=3)).more:
        if step.left is not None:
            reads += 1
            reached = (ann.n(), dialog) if reads == 1 else None
            await authors.erase_left(step.left, NOW, keys=[(dialog, 2)], reached=reached)
    assert reads == 2


async def exercise_nodes(world: World, dialog: bytes) -> None:
    """Call everything by which a node sees the others."""
    nodes, another = world.nodes, await world.journal.begin_incarnation("another")
    since = (await nodes.read_cluster(incarnation=world.incarnation, since=2**62)).horizon
    first, *_ = await nodes.read_rows(dialog, 1, 9)
    assert await nodes.find_unseen([(dialog, 3)], first.stamp) == [1]
    await nodes.read_written([world.incarnation], first.stamp, since, after=(0, NIL, 0))
    assert await nodes.end(another, lease=0)
    assert await nodes.fence(another)
    await nodes.draw_stamp()
    await nodes.find_large(dialog, after=NIL)
    await nodes.read_size(dialog)
    found = (await nodes.read_cluster(incarnation=world.incarnation, since=since)).incarnations
    assert [each.incarnation for each in found if each.fenced_at] == [another]


async def exercise_archived(world: World) -> None:
    """Call what reads from the journal and an archive, with rows in both."""
    ann, bo = await world.people(2)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    await world.flush(*(message(dialog, ann) for _ in range(5)))
    await world.flush(*(edit(dialog, ann, 3, "x" * 30_000) for _ in range(5)), edit(dialog, ann, 4))
    archive, me = LocalArchive(), ann.principal
    held = await world.pool.fetch(f"SELECT {ROW_COLUMNS} FROM journal WHERE dialog_id = $1", dialog)
    await archive.write([make_row(record) for record in held])
    await drop_rows(world, dialog, 1, 3)
    reads = ArchivedTimelines(world.pool, archive, timeout_s=30.0)
    assert len(await reads.read_events(me, [(dialog, 1, 8)], limit=9)) == 8
    assert len(await reads.read_newest(me, dialog, 1, 6, limit=9)) == 6
    for first in (2, 3):
        for newest_first in (False, True):
            await reads.read_later(me, dialog, first, 6, newest_first=newest_first)
    assert await reads.read_missed(me, dialog, 1, 12, limit=9) == []


async def exercise_payments(world: World) -> None:
    """Begin a payment, go on with it, and have the service announce it."""
    ann, bo, relay = *await world.people(2), await world.person(PrincipalType.SERVICE)
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    calls: PaymentCalls = vars(world)["payment_calls"]
    begins = PaymentCall(ann.principal, ann.device, dialog, 1, b"begins", True, [bo.principal])
    for call in (begins, begins, msgspec.structs.replace(begins, n=2, what=b"goes on", parties=[])):
        assert await calls.judge(NOW, call) is VerdictCode.OK
    assert await calls.read_device_key(ann.device) is None
    assert (await calls.read_person_device(ann.principal, ann.device)) is not None
    for wait in (False, True):
        (announced,) = await world.flush(message(dialog, relay, kind=Kind.PAYMENT, requester=ann), wait=wait)
        assert announced.code is VerdictCode.OK


async def exercise_identity(stores: IdentityStores, number: str) -> None:
    """Call everything that reads and writes identity, but the purge."""
    sign_ins, people, services = stores.sign_ins, stores.people, stores.service_accounts
    token = new_id()
    opened = await sign_in(stores, number, refresh=token)
    again = await sign_in(stores, number)
    assert opened.outcome is again.outcome is Outcome.OK
    me, session = opened.principal, new_id()
    await refresh(stores, token, new_id())
    await sign_in_by_issuer(stores, f"external {number}", new_id())
    await guess(stores, phone(number).hash)
    await guess(stores, phone(number).hash, code_id=new_id())
    await sign_ins.read_caller(NOW, me, session)
    await sign_ins.list_live(NOW, me)
    await sign_ins.read_ended(since=2**62)
    await sign_ins.end(NOW, me, session)
    await sign_ins.end_others(NOW, me, session)
    await people.read_profile(me)
    await people.change_profile(NOW, me, ProfileChange(findable=True))
    await people.read_person(me, new_id())
    await people.read_person(new_id(), me)
    await people.find_by_phone(TENANT, new_id(), phone(number).hash)
    await people.grant_admin(NOW, TENANT, phone(number).hash)
    await people.set_status(NOW, TENANT, me, me, PrincipalStatus.ACTIVE)
    key, shop = new_id(), new_id()
    await services.create(
        NOW,
        TENANT,
        me,
        service=shop,
        name="shop",
        device=new_id(),
        key_hash=key,
        grants=KeyGrants(frozenset({Kind.ORDER}), frozenset({me})),
    )
    await services.find_by_key(key)
    assert await services.renew_key(NOW, TENANT, me, service=shop, key_hash=new_id())
    await services.are_businesses(TENANT, [me, new_id()])
    await services.read_mode(TENANT, new_id())
    await services.read_epoch()
    await services.list_posted_dialogs(TENANT, new_id(), new_id(), 10)
    await services.list_posted(new_id(), new_id(), 2, 10)
    await services.may_write(new_id(), [me, new_id()], new_id(), 1)
    await exercise_accounts(stores.accounts, stores.webhooks)
    await people.add_tenants([TENANT])
    await people.set_consent(WhoMayAdd.KNOWN, 10_000)
    assert await people.delete(NOW, me)


async def rows_scanned(connection: Any) -> dict[str, int]:
    """Rows read so far by sequential scans of each table and, where that is much, from each index."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    by_scan = await connection.fetch("SELECT relname, seq_tup_read FROM pg_stat_user_tables")
    by_index = await connection.fetch("SELECT indexrelname, idx_tup_read / $1 FROM pg_stat_user_indexes", FILLED // 2)
    return dict(by_scan) | dict(by_index)


@pytest.mark.parametrize("analysed", [False, True], ids=["never analysed", "analysed while empty"])
@pytest.mark.parametrize("planned", ["when empty", "when filled"])
async def test_no_table_is_scanned(database_url: str, analysed: bool, planned: str) -> None:
    filler = await asyncpg.connect(database_url)
    tables = [row[0] for row in await filler.fetch("SELECT relname FROM pg_stat_user_tables")]
    for table in tables:
        await filler.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
    if analysed:
        await filler.execute("ANALYZE")
    pool = await open_pool(database_url, size=1, statement_timeout_s=30.0)
    try:
        called: set[str] = set()
        world, stores = World(pool), IdentityStores(pool)
        vars(world)["shares"], vars(world)["rosters"] = PostgresShares(pool), PostgresSealedRosters(pool)
        vars(world)["device_messages"] = PostgresDeviceMessages(pool)
        vars(world)["reports"] = PostgresReports(pool)
        vars(world)["backups"] = PostgresBackups(pool)
        vars(world)["payment_calls"] = PaymentCalls(pool)
        for holder in (world, stores):
            for name, store in vars(holder).items():
                if type(store) in STORES:
                    setattr(holder, name, Recorder(store, called))
        world.incarnation = await world.journal.begin_incarnation("test")
        if planned == "when empty":
            await exercise_timelines(world)
            await exercise_archived(world)
            await exercise_purged_authors(world)
            await exercise_payments(world)
            await exercise_encryption(world, FILLED)
            await exercise_identity(stores, "+66800000001")
            await purge(stores, NOW + 1)
        await filler.execute(FILL)

        before = await rows_scanned(pool)
        await exercise_timelines(world)
        await exercise_archived(world)
        await exercise_purged_authors(world)
        await exercise_payments(world)
        await exercise_encryption(world, FILLED)
        await exercise_identity(stores, "+66800000002")
        between = await rows_scanned(pool)
        assert {name for name, rows in between.items() if rows > before[name]} <= SMALL
        await purge(stores, NOW + 40 * DAY)
        after = await rows_scanned(pool)
        assert {name for name, rows in after.items() if rows > between[name]} <= SMALL
        assert called == {name for store in STORES for name in methods_of(store)}
    finally:
        pool.terminate()
        await filler.close()
