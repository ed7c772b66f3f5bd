"""Reports over a socket: only what is proved is kept, and only the moderators can read it."""

from __future__ import annotations

import logging

import msgspec
import pytest
from msgspec.structs import replace
from nacl.public import PrivateKey, SealedBox

from protocol import bodies
from protocol.canonical import to_base64
from protocol.codec import JSON, MSGPACK, Codec
from protocol.errors import ErrorCode
from protocol.ids import new_id, to_text
from protocol.replies import Done
from protocol.report_commands import Report
from server.config.settings import Config, RateSettings, ReportSettings
from storage.local.archive import LocalArchive
from storage.postgres.reports import PostgresReports
from storage.reports import Evidence
from tests.support.archiving import drop_rows, journal_rows
from tests.support.harness import Running, configured, running
from tests.support.sealed_group import SealedGroup

pytestmark = pytest.mark.anyio

MODERATORS = PrivateKey.generate()
TEXT = b"I know where you live"


def taking_reports(rates: RateSettings | None = None) -> Config:
    """A configuration with a moderators' key."""
    key = to_base64(bytes(MODERATORS.public_key))
    return configured(reports=ReportSettings(moderators_key=key), limits=rates or RateSettings())


async def opened_reports(node: Running) -> list[Evidence]:
    """What moderators read."""
    rows = await PostgresReports(node.world.pool).list(after=0, limit=99)
    return [msgspec.json.decode(SealedBox(MODERATORS).decrypt(row.sealed), type=Evidence) for row in rows]


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=["msgpack", "json"])
async def test_a_true_report_is_kept_for_the_moderators_alone(
    database_url: str, codec: Codec, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with running(database_url, taking_reports()) as node:
        group = await SealedGroup.of_three(node.world)
        ann, bo, _ = group.members
        said = await group.post(ann, TEXT)
        edited = await group.edit(ann, said, TEXT + b"!")
        async with node.live(bo, codec) as b:
            for each in (said, edited, said):
                assert isinstance(await b.ask(each.report(5, "a threat")), Done)
        first, second = await opened_reports(node)
        assert (first.content, first.key, first.reason) == (TEXT, said.key, "a threat")
        assert (first.author, first.reporter) == (to_text(ann.principal), to_text(bo.principal))
        assert (first.n, first.tag, first.target) == (said.franked.n, 1, None)
        assert (second.content, second.tag, second.target) == (TEXT + b"!", 2, said.seq)
        for table in ("reports", "audit"):
            rows = await node.world.pool.fetch(f"SELECT x::text FROM {table} x")
            assert rows
            assert not any(bad.hex() in str(row) for row in rows for bad in (TEXT, said.key, b"a threat"))
    logged = [record.getMessage() for record in caplog.records if record.name.startswith(("server", "storage"))]
    assert not any(word in line for line in logged for word in (TEXT.decode(), said.key.hex(), "a threat"))


async def test_what_the_author_did_not_commit_to_is_refused(database_url: str) -> None:
    async with running(database_url, taking_reports()) as node:
        group = await SealedGroup.of_three(node.world)
        ann, bo, _ = group.members
        said, other = await group.post(ann, TEXT), await group.post(bo, TEXT)
        edited = await group.edit(ann, said, TEXT)
        true = said.report(5)
        async with node.live(bo) as b:
            for wrong in (
                replace(true, content=TEXT + b"."),
                replace(true, key=other.key),
                replace(true, key=said.key + b"\0"),
                replace(true, key=said.key[:-1]),
                replace(true, seq=other.seq),
                replace(true, seq=edited.seq),
                replace(true, key=b""),
            ):
                assert (await b.ask(wrong)).code == ErrorCode.REPORT_REFUSED
            await group.world.act(bodies.Deleted, group.dialog, ann, target=said.seq)
            assert (await b.ask(replace(true, content=b""))).code == ErrorCode.REPORT_REFUSED
            assert isinstance(await b.ask(true), Done)
            await node.world.pool.execute("UPDATE erased_commitments SET until_ms = 1")
            assert (await b.ask(true)).code == ErrorCode.REPORT_REFUSED
        assert len(await opened_reports(node)) == 1


async def test_only_who_may_see_a_message_may_report_it(database_url: str) -> None:
    async with running(database_url, taking_reports()) as node:
        group = await SealedGroup.of_three(node.world)
        ann, bo, cy = group.members
        said, stranger = await group.post(ann, TEXT), await node.world.person()
        await node.world.act(bodies.MemberRemoved, group.dialog, ann, cy)
        group.members.remove(cy)
        group.forget_sessions()
        later = await group.post(ann, TEXT)
        async with node.live(stranger) as s, node.live(cy) as c, node.live(bo) as b:
            assert (await s.ask(said.report(5))).code == ErrorCode.DIALOG_NOT_FOUND
            nowhere = Report(5, new_id(), said.seq, said.key, TEXT)
            assert (await s.ask(nowhere)).code == ErrorCode.DIALOG_NOT_FOUND
            assert (await c.ask(later.report(5))).code == ErrorCode.EVENT_NOT_FOUND
            assert isinstance(await c.ask(said.report(6)), Done)
            assert isinstance(await b.ask(later.report(6)), Done)


async def test_without_a_moderators_key_reports_are_off(database_url: str) -> None:
    async with running(database_url) as node:
        group = await SealedGroup.of_three(node.world)
        said = await group.post(group.members[0], TEXT)
        async with node.live(group.members[1]) as b:
            refused = await b.ask(said.report(5))
            assert refused.code == ErrorCode.REPORTS_OFF
            assert "tchat reports key" in refused.message


async def test_a_person_reports_and_is_reported_a_bounded_number_of_times_a_day(database_url: str) -> None:
    rates = RateSettings(reports_per_person_per_day=3, reports_about_person_per_day=2)
    async with running(database_url, taking_reports(rates)) as node:
        group = await SealedGroup.of_three(node.world)
        ann, bo, cy = group.members
        of_ann = [await group.post(ann, TEXT) for _ in range(3)]
        of_bo, of_cy = await group.post(bo, TEXT), await group.post(cy, TEXT)
        async with node.live(bo) as b, node.live(cy) as c:
            wrong = replace(of_ann[0].report(5), content=b"")
            assert (await b.ask(wrong)).code == ErrorCode.REPORT_REFUSED
            for said in of_ann[:2]:
                assert isinstance(await b.ask(said.report(5)), Done)
            refused = await b.ask(of_cy.report(5))
            assert (refused.code, refused.retry_after_s > 3600) == (ErrorCode.RATE_LIMITED, True)
            assert (await c.ask(of_ann[2].report(5))).code == ErrorCode.RATE_LIMITED
            assert isinstance(await c.ask(of_bo.report(5)), Done)


async def test_what_only_the_archive_has_is_reported_from_there(database_url: str) -> None:
    archive = LocalArchive()
    async with running(database_url, taking_reports(), archive=archive) as node:
        group = await SealedGroup.of_three(node.world)
        ann, bo, _ = group.members
        said = await group.post(ann, TEXT)
        await archive.write(await journal_rows(node.world))
        await drop_rows(node.world, group.dialog, said.seq, said.seq)
        async with node.live(bo) as b:
            assert (await b.ask(replace(said.report(5), content=b""))).code == ErrorCode.REPORT_REFUSED
            assert isinstance(await b.ask(said.report(5)), Done)
