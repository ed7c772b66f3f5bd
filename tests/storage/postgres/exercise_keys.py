"""Calls of everything that the stores of encryption promise, for the test that no plan reads a whole table."""

from __future__ import annotations

import msgspec

from protocol import bodies
from protocol.device_log import LogAction, extend, next_entry
from protocol.dialog_types import DialogType, Mode
from protocol.ids import NIL, new_id
from storage.backups import BackupAddition, BackupOutcome, BackupRow
from storage.device_keys import KeyClaim, KeysOutcome, KeyUpload, StoredKey
from storage.device_messages import SendOutcome, SentMessages
from storage.postgres.device_keys import PostgresDeviceKeys
from storage.reports import SealedReport
from storage.rows import VerdictCode
from storage.shares import StagedSlices, StagingOutcome
from tchat.crypto.own_identity import OwnIdentity, new_identity
from tests.support.identity_people import NOW
from tests.support.key_pairs import fresh_keys
from tests.support.sealed_group import SealedGroup
from tests.support.sealing import one_device_of
from tests.support.signing_team import SigningTeam
from tests.support.world import World, message


async def exercise_keys(world: World, filled: int) -> None:
    """Upload, claim and read keys, and write a log, of devices that have them and of those that do not.

    Ann had many devices.
    """
    ann, bo = await world.people(2)
    await world.pool.execute(
        "INSERT INTO device_keys (device_id, principal_id, generation, ed25519, curve25519)"
        " SELECT uuidv7(), $1, 1, uuid_send(uuidv7()), uuid_send(uuidv7()) FROM generate_series(1, $2)",
        ann.principal,
        filled,
    )
    dialog = await world.create(DialogType.DIRECT, ann, bo)
    store, me = PostgresDeviceKeys(world.pool), ann.principal
    for each in (ann, bo):
        keys = fresh_keys()
        upload = KeyUpload(
            sign_in=each.sign_in,
            device=each.device,
            principal=each.principal,
            generation=1,
            keys=b"keys",
            public=keys,
            one_time=[StoredKey(1, b"key")],
            fallback=StoredKey(1, b"key"),
        )
        assert (await store.upload(upload)).held == 1
        if each is ann:
            identity, hers = OwnIdentity(me, 1), keys
    for number in (1, 1, 2):
        claimed = await store.claim(KeyClaim(bo.device, bo.principal, dialog, number, [ann.device, NIL]))
        assert len(claimed.keys) == 1
    state, first = identity.start(b"", 1)
    assert await store.append_log(None, state, [first], NOW) is KeysOutcome.OK
    for action, of in ((LogAction.ADDED, hers), (LogAction.REMOVED, None)):
        before = await store.read_log(me)
        assert before is not None
        entry = next_entry(before, action, ann.device, of, at_ms=1, master=identity.master)
        assert await store.append_log(before, extend(before, [entry]), [entry], NOW) is KeysOutcome.OK
        await world.pool.fetch("SELECT * FROM key_devices($1)", [me, bo.principal])
    await store.put_identity(me, state.master, b"", b"", b"")
    another, newest, entry = new_identity(me, await store.read_log(me), NOW)
    assert await store.append_log(await store.read_log(me), newest, [entry], NOW) is KeysOutcome.OK
    for generation in (1, another.generation):
        assert await store.read_identities(bo.principal, dialog, [(me, generation, 0)], entries_max=9)
    await world.timelines.take_snapshot(bo.principal, bo.sign_in, None, window=9, events_max=99)


async def exercise_shares(world: World, filled: int) -> None:
    """Share two sessions with a device, after a share that was overtaken; then one with many devices."""
    ann, bo = await one_device_of(world), await one_device_of(world)
    dialog, store = await world.create(DialogType.DIRECT, ann, bo, mode=Mode.SEALED), vars(world)["shares"]
    for keys_seq in (0, 1):
        await world.pool.execute("UPDATE heads SET keys_seq = $2 WHERE dialog_id = $1", dialog, keys_seq)
        for session in (bytes([keys_seq]) * 32, bytes([keys_seq + 2]) * 32):
            share = new_id()
            staged = StagedSlices(
                principal=ann.principal,
                device=ann.device,
                share=share,
                dialog=dialog,
                session=session,
                keys_seq=keys_seq,
                slices=[(bo.device, b"keys")],
            )
            for more in (True, False):
                uploaded = msgspec.structs.replace(staged, more=more)
                assert (await store.stage(uploaded, 2**50)).outcome is StagingOutcome.OK
    for named in (share, None):
        entry = msgspec.structs.replace(message(dialog, ann, keys_seq=1), session=session, share=named)
        assert (await world.flush(entry))[0].code is VerdictCode.OK
    (row,) = await store.read(bo.device, after=0, limit=9)
    assert await store.read_shared([(ann.device, share)], [bo.device]) == [row]
    assert await store.read_newest(bo.device, dialog, limit=1000) == [row]
    await store.confirm([(bo.device, row.number)])
    large = msgspec.structs.replace(staged, share=new_id(), more=True)
    assert (await store.stage(large, 2**50)).outcome is StagingOutcome.OK
    await world.pool.execute(
        "INSERT INTO slices (to_device, device_id, share_id, body)"
        " SELECT uuidv7(), $1, $2, 'keys' FROM generate_series(1, $3)",
        ann.device,
        large.share,
        filled,
    )
    assert (await store.stage(large, 2**50)).outcome is StagingOutcome.OK
    await world.pool.execute("UPDATE shares SET live = true WHERE share_id = $1", large.share)
    (row,) = await store.read_shared([(ann.device, large.share)], [bo.device])
    await store.confirm([(bo.device, row.number)])


async def exercise_rosters(world: World) -> None:
    """Announce logs, also one that is announced in no dialog any more."""
    rosters = vars(world)["rosters"]
    for limit in (1, 9):
        step = await rosters.next_announcement(limit=limit)
        await rosters.note_announced(step, None if step.last else step.reached)
    team = await SigningTeam.found(world, PostgresDeviceKeys(world.pool), 4)
    ann, bo, cy, di = team.people
    invitation = await team.invite(ann, di)
    await team.change(ann.person, bodies.MemberRemoved(bo.person.principal))
    await team.add(ann, bo)
    await team.accept(di, invitation)
    await team.promote(ann, cy)
    assert (await rosters.read_for_newcomer(di.person.principal, team.dialog)).members
    assert await rosters.read_since(di.person.principal, team.dialog, 1)
    assert await rosters.read_since(bytes(16), team.dialog, 1) is None


async def exercise_device_messages(world: World) -> None:
    """Post, read and confirm messages to a device."""
    ann, bo = await one_device_of(world), await one_device_of(world)
    dialog, store = await world.create(DialogType.DIRECT, ann, bo), vars(world)["device_messages"]
    for _ in range(2):
        sent = SentMessages(
            principal=ann.principal,
            device=ann.device,
            message=new_id(),
            dialog=dialog,
            messages=[(bo.device, b"hello")],
        )
        assert await store.send(sent, 2**50) is SendOutcome.OK
    await store.read_new(2**62)
    assert [row.number for row in await store.read(bo.device, limit=9)] == [1, 2]
    await store.confirm(bo.device, 1)


async def exercise_reports(world: World) -> None:
    """Report a sealed message, erase it with what hangs on it, and forget what it committed to."""
    group, store = await SealedGroup.of_three(world), vars(world)["reports"]
    ann, bo, _ = group.members
    said = await group.post(ann, b"said")
    await group.edit(ann, said, b"edited")
    assert (await store.find(bo.principal, group.dialog, said.seq, 0)).committed is not None
    report = SealedReport(0, bo.principal, ann.principal, group.dialog, said.seq, b"sealed")
    await store.keep(report, until_ms=1)
    await store.list(after=2**60, limit=9)
    await world.act(bodies.Deleted, group.dialog, ann, target=said.seq)
    while (await world.journal.erase_due(NOW, limit=10)).more:
        pass


async def exercise_backups(world: World) -> None:
    """Add to the backups of two identities of a person, and read one."""
    ann, store = await one_device_of(world), vars(world)["backups"]
    for generation in (1, 2):
        await world.pool.execute(
            "INSERT INTO identities VALUES ($1, $2, 2, '', '') ON CONFLICT (principal_id) DO UPDATE"
            " SET generation = excluded.generation",
            ann.principal,
            generation,
        )
        rows = [BackupRow(bytes(32), 1, b"value")]
        put = BackupAddition(principal=ann.principal, device=ann.device, generation=generation, rows=rows)
        assert await store.put(put, 2**50, values_max=9) is BackupOutcome.OK
    assert await store.read(ann.principal, 2, after=b"", limit=9) == rows


async def exercise_encryption(world: World, filled: int) -> None:
    """Call all of it; the stores are fields of the world. `filled` rows are many."""
    await exercise_keys(world, filled)
    await exercise_shares(world, filled)
    await exercise_rosters(world)
    await exercise_device_messages(world)
    await exercise_reports(world)
    await exercise_backups(world)
