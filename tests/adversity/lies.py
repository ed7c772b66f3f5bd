"""The lies that a server, or who has its database, may tell: each is told once, and must be noticed.

A lie is a function that tells it to a `Stage` and returns what the person is shown. What it must not reach is forbidden
before (`Stage.forbid`), so that keys that go there are counted.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable

import msgspec
import vodozemac
from nacl.signing import SigningKey

from protocol import bodies as b
from protocol.bodies import TimelineEvent
from protocol.canonical import from_base64
from protocol.codec import ServerMessage
from protocol.commands import Add, Create, Remove
from protocol.device_commands import BackupValue
from protocol.device_log import LogAction, LogState, hash_of_entry, next_entry
from protocol.dialog_types import DialogType
from protocol.events import KeySlices
from protocol.ids import NIL, new_id
from protocol.key_commands import NamedKey, UploadKeys
from protocol.public_keys import DevicePublic
from protocol.replies import BackupPage, DevicesPage, PersonDevices
from storage.postgres.device_keys import PostgresDeviceKeys
from storage.rows import ChangeEntry
from tchat.crypto.errors import Reason
from tchat.crypto.own_identity import new_identity
from tchat.crypto.own_keys import OwnKeys
from tchat.crypto.recovery import BackedUpSession, new_recovery_key, seal_session, session_place
from tchat.crypto.state import MemoryState, Step, Table
from tchat.encryption.backing_up import IDENTITY_KEY
from tchat.encryption.notices import (
    BackupRestored,
    ChangeNotBelieved,
    DevicesDoubted,
    MessagesMissing,
    Unreadable,
    ViewsDiffer,
)
from tests.adversity.lying_stage import Player, Stage, events_changed, neutral
from tests.support.key_pairs import fresh_keys
from tests.support.world import UNCHECKED, Person

Lie = Callable[[Stage, random.Random], Awaitable[object]]


async def ghost_device(stage: Stage, _rnd: random.Random) -> object:
    """An entry in Bo's log that nobody with his keys has signed."""
    log, ghost = await _log_of(stage, stage.bo), Person(stage.bo.id)
    forged = next_entry(log, LogAction.ADDED, ghost.device, fresh_keys(), at_ms=1, master=SigningKey.generate())
    head = b.LogHead(log.generation, log.length + 1, hash_of_entry(forged))
    stage.forbid(ghost.device)
    _tell_logs(stage.ann, stage.bo.id, lambda person: _with_log(person, head, [forged]))
    await stage.ann.proxy.tell(await _devices_changed(stage, stage.bo, head))
    return await stage.ann.hears(DevicesDoubted)


async def ghost_member(stage: Stage, _rnd: random.Random) -> object:
    """Eve is a member in the database, by nobody's signature: the honest part of this server looks at its length."""
    stage.forbid(stage.eve.person.device)
    keys_seq = await stage.server.world.pool.fetchval("SELECT keys_seq FROM heads WHERE dialog_id = $1", stage.group)
    added = b.MembersAdded([stage.eve.id], b.Signed(keys_seq, bytes(32), UNCHECKED))
    await stage.server.node.pipeline.append(ChangeEntry(stage.group, stage.ann.id, new_id(), 1, added))
    return await stage.bo.hears(ChangeNotBelieved)


async def swapped_identity(stage: Stage, _rnd: random.Random) -> object:
    """Another identity for Bo, whom Ann has verified; Mallory has its keys."""
    log, keys = await _log_of(stage, stage.bo), PostgresDeviceKeys(stage.server.world.pool)
    assert stage.ann.client.encryption.people.verified(stage.bo.id, log.master)
    mallory, public = await _device_with_keys(stage, stage.bo.id)
    stage.forbid(mallory.device)
    identity, state, started = new_identity(stage.bo.id, log, 1)
    state, added = identity.add_device(state, mallory.device, public, 1)
    await keys.append_log(log, state, [started, added], 1)
    return await stage.ann.hears(DevicesDoubted)


async def hidden_removal(stage: Stage, _rnd: random.Random) -> object:
    """Bo has removed his tablet, and Ann is not told."""
    tablet = await _add_tablet(stage)
    await stage.ann.says(stage.group, b"for the tablet, too")
    stage.ann.proxy.told = _hiding(lambda event: isinstance(event.body, b.DevicesChanged))
    stage.forbid(tablet)
    assert stage.bo.client.encryption.remove_device(tablet)
    await stage.cy.hears(TimelineEvent, lambda event: _has_length(event, 4, stage.group))
    await stage.cy.says(stage.group, b"not for the tablet")
    return await _is_noticed(stage.ann)


async def rollback(stage: Stage, _rnd: random.Random) -> object:
    """Bo's log as it was before his tablet was removed."""
    tablet = await _add_tablet(stage)
    before = await _log_of(stage, stage.bo)
    assert stage.bo.client.encryption.remove_device(tablet)
    await stage.ann.hears(TimelineEvent, lambda event: _has_length(event, 4, stage.group))
    await stage.ann.says(stage.group, b"not for the tablet")
    stage.forbid(tablet)
    old = b.LogHead(before.generation, before.length, before.head)
    _tell_logs(stage.ann, stage.bo.id, lambda person: _with_log(person, old, []))
    await stage.ann.proxy.tell(await _devices_changed(stage, stage.bo, b.LogHead(1, 5, bytes(32))))
    return await stage.ann.hears(DevicesDoubted)


async def split_view(stage: Stage, _rnd: random.Random) -> object:
    """Cy was removed, and Bo is not told."""
    stage.bo.proxy.told = _hiding(lambda event: isinstance(event.body, b.MemberRemoved))
    stage.forbid(stage.cy.person.device)
    await stage.ann.client.perform(Remove(0, stage.group, 0, stage.cy.id))
    await stage.ann.says(stage.group, b"without Cy")
    return await _is_noticed(stage.bo)


async def replay(stage: Stage, _rnd: random.Random) -> object:
    """A message of Ann a second time, under the next number."""
    said = await _sealed_event(stage, b"once")
    await stage.bo.proxy.tell(msgspec.structs.replace(said, seq=said.seq + 1, n=said.n))
    return await stage.bo.hears(Unreadable)


async def moved(stage: Stage, _rnd: random.Random) -> object:
    """A message to the group in the direct dialog of Ann and Bo."""
    command = Create(0, 0, DialogType.DIRECT, [stage.bo.id])
    direct = (await stage.ann.client.perform(command)).dialog
    seq = await stage.ann.says(direct, b"to you alone")
    await stage.bo.reads(direct, b"to you alone")
    said = await _sealed_event(stage, b"to all")
    await stage.bo.proxy.tell(msgspec.structs.replace(said, dialog=direct, seq=seq + 1))
    return await stage.bo.hears(Unreadable)


async def rewritten_header(stage: Stage, rnd: random.Random) -> object:
    """Something of what stands outside of the ciphertext."""
    name, value = rnd.choice([("reply_to", 2), ("expires_at_ms", 2**42), ("ref", b.Ref("order", "1"))])

    def rewrite(event: TimelineEvent) -> Iterable[TimelineEvent]:
        if isinstance(event.body, b.Posted):
            header = msgspec.structs.replace(event.body.header, **{name: value})
            event = msgspec.structs.replace(event, body=msgspec.structs.replace(event.body, header=header))
        return (event,)

    stage.bo.proxy.told = events_changed(rewrite)
    await stage.ann.says(stage.group, b"as it was")
    return await stage.bo.hears(Unreadable)


async def dropped(stage: Stage, _rnd: random.Random) -> object:
    """A message of Ann that Bo is not shown."""
    stage.bo.proxy.told = _hiding(lambda event: isinstance(event.body, b.Posted))
    await stage.ann.says(stage.group, b"never seen")
    await stage.bo.hears(TimelineEvent, lambda event: isinstance(event.body, b.SettingsChanged))
    stage.bo.proxy.told = lambda message: (message,)
    await stage.ann.says(stage.group, b"seen")
    return await stage.bo.hears(MessagesMissing)


async def reordered(stage: Stage, _rnd: random.Random) -> object:
    """Two messages of Ann change places."""
    held: list[TimelineEvent] = []

    def swap(event: TimelineEvent) -> Iterable[TimelineEvent]:
        if not isinstance(event.body, b.Posted):
            return (event,)
        held.append(event)
        if len(held) < 2:
            return ()
        first, second = held
        return (
            msgspec.structs.replace(second, seq=first.seq),
            msgspec.structs.replace(first, seq=second.seq),
        )

    stage.bo.proxy.told = events_changed(swap)
    await stage.ann.says(stage.group, b"first")
    await stage.ann.says(stage.group, b"second")
    return await stage.bo.hears(MessagesMissing)


async def withheld_slice(stage: Stage, _rnd: random.Random) -> object:
    """The keys of Ann's next session do not reach Bo."""
    stage.bo.proxy.told = lambda message: () if isinstance(message, KeySlices) else (message,)
    await stage.ann.client.perform(Remove(0, stage.group, 0, stage.cy.id))
    await stage.ann.says(stage.group, b"under other keys")
    return await stage.bo.hears(Unreadable)


async def reshared_session(stage: Stage, _rnd: random.Random) -> object:
    """Ann's session and words are said to be Cy's."""

    def told(message: ServerMessage) -> Iterable[ServerMessage]:
        cy = {"author": stage.cy.id, "device": stage.cy.person.device}
        if isinstance(message, KeySlices):
            slices = [msgspec.structs.replace(each, **cy) for each in message.slices]
            return (msgspec.structs.replace(message, slices=slices),)
        if isinstance(message, TimelineEvent) and isinstance(message.body, b.Posted):
            return (msgspec.structs.replace(message, **cy),)
        return (message,)

    await stage.ann.client.perform(Add(0, stage.group, 0, [stage.eve.id]))
    await stage.eve.hears(TimelineEvent, lambda event: event.dialog == stage.group)
    await stage.ann.client.perform(Remove(0, stage.group, 0, stage.eve.id))
    await stage.bo.hears(TimelineEvent, lambda event: isinstance(event.body, b.MemberRemoved))
    stage.bo.proxy.told = told
    await stage.ann.says(stage.group, b"of Ann")
    shown = await stage.bo.hears(Unreadable, lambda notice: notice.reason is not Reason.UNKNOWN_MEMBERS)
    assert not stage.bo.has_read(stage.group, b"of Ann")
    return shown


async def injected_backup(stage: Stage, _rnd: random.Random) -> object:
    """To a fresh device of Ann: a session of Mallory, as if it were Bo's, and one of her own in another place."""
    ann = stage.ann.client.encryption
    identity, recovery_key = ann.people.identity, ann.recovery_key
    assert identity is not None
    assert recovery_key is not None
    mallorys = _session_as_of(stage.bo, stage.group)
    sealed = seal_session(new_recovery_key(), identity, mallorys)

    def inject(message: ServerMessage) -> Iterable[ServerMessage]:
        if not isinstance(message, BackupPage) or message.values[-1].key == IDENTITY_KEY:
            return (message,)
        *first, last = message.values
        moved = msgspec.structs.replace(last, key=session_place(mallorys.session, stage.ann.person.device))
        injected = BackupValue(session_place(mallorys.session, mallorys.device), 1, sealed)
        return (msgspec.structs.replace(message, values=[*first, moved, injected]),)

    await stage.is_backed_up(stage.ann, 4)  # the identity, and the sessions of three
    async with stage.another_device(stage.ann) as tablet:
        tablet.proxy.told = inject
        tablet.client.encryption.recover(recovery_key)
        shown = await tablet.hears(BackupRestored, lambda restored: restored.refused)
        stage.taken += sum(key.startswith(mallorys.session) for key in tablet.store.keys(Table.INBOUND, b""))
        return shown


LIES: dict[str, Lie] = {
    lie.__name__: lie
    for lie in (
        ghost_device,
        ghost_member,
        swapped_identity,
        hidden_removal,
        rollback,
        split_view,
        replay,
        moved,
        rewritten_header,
        dropped,
        reordered,
        withheld_slice,
        reshared_session,
        injected_backup,
    )
}
HOLDS = {
    "ghost_device": "ann",
    "ghost_member": "ann",
    "swapped_identity": "ann",
    "rollback": "ann",
    "split_view": "bo",
    "hidden_removal": "ann",
}
"""Who says nothing more in the group, once the lie is noticed."""


async def _log_of(stage: Stage, player: Player) -> LogState:
    log = await PostgresDeviceKeys(stage.server.world.pool).read_log(player.id)
    assert log is not None
    return log


async def _device_with_keys(stage: Stage, principal: bytes) -> tuple[Person, DevicePublic]:
    """Another device that is signed in as this person, and has uploaded keys."""
    device, world = Person(principal), stage.server.world
    await world.pool.execute("INSERT INTO devices VALUES ($1, $2, 0)", device.device, principal)
    await world.another_sign_in(device)
    own = OwnKeys.create(Step(MemoryState()), principal, device.device, 1)
    made = own.prepare_upload(0, 1_700_000_000_000, fallback_used=False)
    keys = [NamedKey(*each) for each in sorted(made.one_time_keys.items())]
    fallback = [NamedKey(*each) for each in made.fallback_keys.items()]
    async with stage.server.live(device) as wire:
        await wire.ask(UploadKeys(3, made.generation, made.device_keys, keys, *fallback))
    return device, own.public


async def _add_tablet(stage: Stage) -> bytes:
    """A second device of Bo, which all others know; its id."""
    tablet, public = await _device_with_keys(stage, stage.bo.id)
    identity, log = stage.bo.client.encryption.people.identity, await _log_of(stage, stage.bo)
    assert identity is not None
    grown, entry = identity.add_device(log, tablet.device, public, 1)
    await PostgresDeviceKeys(stage.server.world.pool).append_log(log, grown, [entry], 1)
    for player in (stage.ann, stage.bo, stage.cy):
        await player.hears(TimelineEvent, lambda event: _has_length(event, grown.length, stage.group))
    await stage.bo.knows(stage.bo, grown.length)
    return tablet.device


def _session_as_of(player: Player, dialog: bytes) -> BackedUpSession:
    """A session that somebody else has made, said to be this player's."""
    made = vodozemac.GroupSession()
    exported = vodozemac.InboundGroupSession(made.session_key).export_at(0)
    assert exported is not None
    session = from_base64(made.session_id)
    return BackedUpSession(session, dialog, player.id, player.person.device, exported.to_base64())


def _has_length(event: TimelineEvent, length: int, dialog: bytes) -> bool:
    return event.dialog == dialog and isinstance(event.body, b.DevicesChanged) and event.body.log.length == length


async def _sealed_event(stage: Stage, text: bytes) -> TimelineEvent:
    """Ann says something, which Bo reads; as the server has it."""
    seq = await stage.ann.says(stage.group, text)
    await stage.bo.reads(stage.group, text)
    found = await stage.server.world.timelines.read_events(stage.ann.id, [(stage.group, seq, seq)], limit=1)
    return msgspec.msgpack.decode(msgspec.msgpack.encode(found[0]), type=TimelineEvent)


async def _devices_changed(stage: Stage, of: Player, head: b.LogHead) -> TimelineEvent:
    """The next event of the group, which is none."""
    seq = await stage.server.world.pool.fetchval("SELECT seq FROM heads WHERE dialog_id = $1", stage.group)
    return TimelineEvent(stage.group, seq + 1, of.id, NIL, 0, 0, 0, b.DevicesChanged(of.id, head))


def _tell_logs(to: Player, principal: bytes, change: Callable[[PersonDevices], PersonDevices]) -> None:
    """Lie to somebody about a log."""

    def told(message: ServerMessage) -> Iterable[ServerMessage]:
        if isinstance(message, DevicesPage):
            people = [change(each) if each.principal == principal else each for each in message.people]
            return (msgspec.structs.replace(message, people=people),)
        return (message,)

    to.proxy.told = told


def _with_log(person: PersonDevices, head: b.LogHead, entries: list[bytes]) -> PersonDevices:
    return msgspec.structs.replace(
        person, generation=head.generation, length=head.length, head=head.head, entries=entries
    )


def _hiding(hidden: Callable[[TimelineEvent], bool]) -> Callable[[ServerMessage], Iterable[ServerMessage]]:
    return events_changed(lambda event: (neutral(event) if hidden(event) else event,))


async def _is_noticed(player: Player) -> object:
    """What shows that somebody sees other members or devices."""
    return await player.hears(ViewsDiffer)
