"""Uploading and confirming slices over a socket."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from protocol.bodies import Header, TimelineEvent
from protocol.codec import JSON, MSGPACK, Codec
from protocol.commands import Edit, History, React, Send
from protocol.dialog_types import DialogType, Mode
from protocol.errors import ErrorCode
from protocol.events import KeySlices
from protocol.ids import new_id
from protocol.replies import Acked, Done, HistoryPage, SlicesUploaded
from protocol.share_commands import ConfirmSlices, Slice, UploadSlices
from storage.postgres.shares import PostgresShares
from tests.support.harness import running
from tests.support.sealing import one_device_of, upload
from tests.support.world import message

pytestmark = pytest.mark.anyio

ONE, OTHER = b"1" * 32, b"2" * 32


@pytest.mark.parametrize("codec", [MSGPACK, JSON], ids=["msgpack", "json"])
async def test_a_message_brings_the_slices_that_were_uploaded_before(database_url: str, codec: Codec) -> None:
    async with running(database_url) as node:
        ann, bo, cy = [await one_device_of(node.world) for _ in range(3)]
        dialog = await node.world.create(DialogType.GROUP, ann, bo, cy, mode=Mode.SEALED)
        share, shares = new_id(), PostgresShares(node.world.pool)
        sealed = Header(commitment=bytes(32), session=ONE, share=share)
        async with node.live(ann, codec) as a, node.live(bo, codec) as b:
            uploaded = await a.ask(UploadSlices(3, share, dialog, ONE, 0, [Slice(bo.device, b"for Bo")]))
            assert uploaded == SlicesUploaded(3, False, [cy.device])
            assert (await a.ask(Send(4, dialog, 5, b"sealed", sealed))).code == ErrorCode.STALE
            uploaded = await a.ask(UploadSlices(5, share, dialog, ONE, 0, [Slice(cy.device, b"for Cy")]))
            assert uploaded == SlicesUploaded(5, True)
            said = await a.ask(Send(6, dialog, 5, b"sealed", sealed))
            assert isinstance(said, Acked)
            assert (await b.until(TimelineEvent)).body.header == sealed
            again = replace(sealed, share=None)
            assert isinstance(await a.ask(React(7, dialog, 6, said.seq, b"+", again)), Acked)
            assert (await b.until(TimelineEvent)).body.header == again
            (row,) = await shares.read(bo.device, after=0, limit=9)
            assert (row.share, row.session, row.body) == (share, ONE, b"for Bo")
            assert isinstance(await b.ask(ConfirmSlices(3, [row.number])), Done)
        assert await shares.read(bo.device, after=0, limit=9) == []


async def test_a_page_comes_after_the_keys_of_what_is_still_on_its_way(database_url: str) -> None:
    async with running(database_url) as node:
        ann, bo = [await one_device_of(node.world) for _ in range(2)]
        dialog = await node.world.create(DialogType.DIRECT, ann, bo, mode=Mode.SEALED)
        async with node.live(ann) as a, node.live(bo) as b:
            share = await upload(a, dialog, ONE, bo)
            for seq, named in ((2, share), (3, None)):  # stored by another node, which this one has not heard of
                entry = replace(message(dialog, ann, keys_seq=0), session=ONE, share=named)
                assert [verdict.seq for verdict in await node.world.flush(entry)] == [seq]
            await b.send(History(3, dialog, from_seq=3))
            keys, page = await b.receive(), await b.receive()
            assert isinstance(keys, KeySlices)
            assert [(each.device, each.body) for each in keys.slices] == [(ann.device, b"keys" + bo.device)]
            assert isinstance(page, HistoryPage)
            assert [event.seq for event in page.events] == [3]
            assert isinstance(await b.ask(ConfirmSlices(4, [keys.slices[0].number])), Done)
            await b.send(History(5, dialog))
            assert isinstance(await b.receive(), HistoryPage)


async def test_a_sealed_message_without_a_commitment_is_refused(database_url: str) -> None:
    async with running(database_url) as node:
        ann, bo = [await one_device_of(node.world) for _ in range(2)]
        dialog = await node.world.create(DialogType.DIRECT, ann, bo, mode=Mode.SEALED)
        share, header = new_id(), Header(commitment=bytes(32), session=ONE)
        async with node.live(ann) as a:
            assert (await a.ask(UploadSlices(3, share, dialog, ONE, 0, [Slice(bo.device, b"for Bo")]))).complete
            said = await a.ask(Send(4, dialog, ann.n(), b"sealed", replace(header, share=share)))
            bare = replace(header, commitment=None)
            for command in (
                Send(5, dialog, 99, b"sealed", bare),
                Edit(5, dialog, 99, said.seq, b"sealed", bare),
                React(5, dialog, 99, said.seq, b"sealed", bare),
            ):
                assert (await a.ask(command)).code == ErrorCode.INVALID_ARGUMENT
                assert isinstance(await a.ask(replace(command, n=ann.n(), header=header)), Acked)


async def test_a_refused_upload_says_why(database_url: str) -> None:
    async with running(database_url) as node:
        ann, bo, cy, di = [await one_device_of(node.world) for _ in range(4)]
        dialog = await node.world.create(DialogType.GROUP, ann, bo, cy, mode=Mode.SEALED)
        opened = await node.world.create(DialogType.GROUP, ann, bo, cy)
        to_bo, to_di, share = Slice(bo.device, b"for Bo"), Slice(di.device, b"for Di"), new_id()
        async with node.live(ann) as a:
            for number, (upload, code) in enumerate(
                [
                    (UploadSlices(0, share, new_id(), ONE, 0, [to_bo]), ErrorCode.DIALOG_NOT_FOUND),
                    (UploadSlices(0, share, opened, ONE, 0, [to_bo]), ErrorCode.INVALID_ARGUMENT),
                    (UploadSlices(0, share, dialog, ONE, 1, [to_bo]), ErrorCode.STALE),
                    (UploadSlices(0, share, dialog, ONE, 0, [to_di]), ErrorCode.INVALID_ARGUMENT),
                    (UploadSlices(0, share, dialog, ONE, 0, [to_bo, to_bo]), ErrorCode.INVALID_ARGUMENT),
                    (UploadSlices(0, share, dialog, ONE, 0, [to_bo]), None),
                    (UploadSlices(0, share, dialog, OTHER, 0, [to_bo]), ErrorCode.CONFLICT),
                ],
                start=3,
            ):
                reply = await a.ask(replace(upload, id=number))
                assert (None if isinstance(reply, SlicesUploaded) else reply.code) == code
            await node.world.pool.execute("UPDATE heads SET keys_seq = 1 WHERE dialog_id = $1", dialog)
            stale = await a.ask(UploadSlices(99, share, dialog, ONE, 0, [to_bo]))
            assert (stale.code, stale.keys_seq) == (ErrorCode.STALE, 1)
