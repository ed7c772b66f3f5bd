"""Keys over the wire: what devices upload, claim and read, and how the server refuses what cannot be believed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from protocol.bodies import DevicesChanged, LogHead, TimelineEvent
from protocol.canonical import decode_canonical, encode_canonical
from protocol.close_codes import CloseCode
from protocol.codec import CODECS, Codec
from protocol.commands import Authenticate, Sync
from protocol.cross_signing import read_device_keys
from protocol.device_log import LogAction, extend, fold, next_entry
from protocol.dialog_types import DialogType, Mode
from protocol.errors import ErrorCode
from protocol.key_commands import (
    AppendDeviceLog,
    ClaimKeys,
    KnownLog,
    NamedKey,
    PutIdentity,
    ReadDevices,
    UploadKeys,
)
from protocol.limits import IDENTITIES_AHEAD_MAX, ONE_TIME_KEYS_MAX, ONE_TIME_KEYS_PER_COMMAND_MAX, REPLY_BYTES_MAX
from protocol.public_keys import DevicePublic
from protocol.replies import ClaimedKeys, DevicesPage, Done, Failed, KeysUploaded, Synced
from server.config.settings import RateSettings
from tchat.crypto.own_identity import OwnIdentity
from tchat.crypto.own_keys import OwnKeys
from tchat.crypto.state import MemoryState, Step
from tests.support.harness import Running, Wire, configured, running
from tests.support.world import Person

pytestmark = pytest.mark.anyio

NOW_MS = 1_700_000_000_000


class Keyed:
    """The keys of a person's device, as its client makes them."""

    def __init__(self, person: Person, generation: int = 1) -> None:
        self.person = person
        self.own = OwnKeys.create(Step(MemoryState()), person.principal, person.device, generation)

    def command(self, *, held: int = 40) -> UploadKeys:
        """The upload of what fifty lack, and of a fallback key; the same again until it is taken as uploaded."""
        upload = self.own.prepare_upload(held, NOW_MS, fallback_used=False)
        one_time = [NamedKey(*each) for each in sorted(upload.one_time_keys.items())]
        fallback = [NamedKey(*each) for each in upload.fallback_keys.items()]
        return UploadKeys(3, upload.generation, upload.device_keys, one_time, *fallback)

    async def upload(self, wire: Wire, *, held: int = 40) -> Any:
        """Upload, and take it that the server has it."""
        command = self.command(held=held)
        self.own.account.mark_keys_as_published()
        return await wire.ask(command)


@pytest.fixture
async def node(database_url: str) -> AsyncIterator[Running]:
    """A node with low rates."""
    limits = RateSettings(
        key_claims_per_person_per_h=6, key_claims_per_device_per_h=2, device_log_entries_per_person_per_day=3
    )
    async with running(database_url, configured(limits=limits)) as it:
        yield it


@pytest.fixture
async def pair(server: Running) -> tuple[Keyed, Keyed, bytes]:
    """Two people with a dialog, and keys of their devices."""
    return await make_pair(server)


async def make_pair(node: Running) -> tuple[Keyed, Keyed, bytes]:
    ann, bo = await node.world.people(2)
    return Keyed(ann), Keyed(bo), await node.world.create(DialogType.DIRECT, ann, bo)


@pytest.mark.parametrize("codec", CODECS.values(), ids=lambda codec: codec.subprotocol)
async def test_a_device_claims_a_key_that_another_has_uploaded(
    server: Running, pair: tuple[Keyed, Keyed, bytes], codec: Codec
) -> None:
    ann, bo, dialog = pair
    uploaded = ann.command()
    async with server.live(ann.person, codec) as a, server.live(bo.person, codec) as b:
        assert await a.ask(uploaded) == KeysUploaded(3, 10, fallback_used=False)
        claim = ClaimKeys(4, 1, dialog, [ann.person.device])
        assert (await b.ask(claim)).code == "keys_missing"
        await b.ask(bo.command())
        claimed = await b.ask(claim)
        assert isinstance(claimed, ClaimedKeys)
        (given,) = claimed.keys
        assert (given.device, given.fallback) == (ann.person.device, False)
        assert NamedKey(given.id, given.key) == uploaded.one_time_keys[0]
        assert await b.ask(claim) == claimed
        assert (await a.ask(uploaded)).one_time_keys == 9
        page = await b.ask(ReadDevices(5, dialog, [KnownLog(ann.person.principal)]))
        assert isinstance(page, DevicesPage)
        ((device,),) = (each.devices for each in page.people)
        assert read_device_keys(device.keys, ann.person.principal, ann.person.device) == ann.own.public


async def test_a_sync_tells_what_the_server_has_of_the_device(
    server: Running, pair: tuple[Keyed, Keyed, bytes]
) -> None:
    ann, _, dialog = pair
    async with server.live(ann.person) as a:
        await a.ask(ann.command())
    await server.world.say(dialog, ann.person)
    async with server.live(ann.person) as a:
        synced = a.caught_up[0]
        assert isinstance(synced, Synced)
        assert (synced.n_max, synced.key_generation, synced.one_time_keys) == (2, 1, 10)


def edited(data: bytes, **fields: object) -> bytes:
    """The object with other fields, and the signatures of before."""
    return encode_canonical({**decode_canonical(data), **fields})


def swap(command: UploadKeys, **fields: Any) -> UploadKeys:
    """The upload with other fields."""
    values = {name: getattr(command, name) for name in command.__struct_fields__}
    return UploadKeys(**{**values, **fields})


async def test_what_no_client_could_believe_is_refused(server: Running, pair: tuple[Keyed, Keyed, bytes]) -> None:
    ann, bo, _ = pair
    good, of_bo = ann.command(), bo.command()
    first, second, *_ = good.one_time_keys
    fallback = good.fallback
    assert fallback is not None
    zero = encode_canonical({"key": "A" * 43, "signatures": {}})
    bad = [
        swap(good, device_keys=of_bo.device_keys),
        swap(good, device_keys=edited(good.device_keys, algorithms=["m.megolm.v1.aes-sha2", "m.olm.v1", "x"])),
        swap(good, device_keys=b" " + good.device_keys),
        swap(good, one_time_keys=[of_bo.one_time_keys[0]]),
        swap(good, one_time_keys=[NamedKey("AAAAAAAAAAk", zero)]),
        swap(good, one_time_keys=[first, NamedKey(first.id, second.key)]),
        swap(good, one_time_keys=[NamedKey("A" * 10 + "B", first.key)]),  # not base64 in its one form
        swap(good, one_time_keys=[NamedKey("_" * 11, first.key)]),
        swap(good, one_time_keys=[NamedKey("//////////8", first.key)]),
        swap(good, one_time_keys=[fallback]),
        swap(good, fallback=first),
    ]
    async with server.live(ann.person) as a:
        assert [(await a.ask(each)).code for each in bad] == [ErrorCode.KEYS_REFUSED] * len(bad)
        assert (await a.ask(swap(good, one_time_keys=[]))).one_time_keys == 0


async def test_a_copied_store_and_too_many_keys_are_refused(server: Running, pair: tuple[Keyed, Keyed, bytes]) -> None:
    ann, *_ = pair
    newer = Keyed(ann.person, 2)
    async with server.live(ann.person) as a:
        assert (await newer.upload(a, held=0)).one_time_keys == ONE_TIME_KEYS_PER_COMMAND_MAX
        assert (await ann.upload(a)).code == "keys_passed"
        assert (await newer.upload(a, held=0)).one_time_keys == ONE_TIME_KEYS_MAX
        assert (await newer.upload(a, held=49)).code == "keys_bound"


async def test_strangers_get_neither_keys_nor_logs(server: Running, pair: tuple[Keyed, Keyed, bytes]) -> None:
    ann, _, dialog = pair
    (stranger,) = await server.world.people(1)
    eve = Keyed(stranger)
    async with server.live(stranger) as e:
        await e.ask(eve.command())
        assert (await e.ask(ClaimKeys(4, 1, dialog, [ann.person.device]))).code == "dialog_not_found"
        assert (await e.ask(ReadDevices(5, dialog, [KnownLog(ann.person.principal)]))).code == "dialog_not_found"


async def test_past_a_rate_the_fallback_key_is_given_and_nothing_is_refused(node: Running) -> None:
    ann, bo, dialog = await make_pair(node)
    async with node.live(ann.person) as a, node.live(bo.person) as b:
        await a.ask(ann.command())
        await b.ask(bo.command())
        of_ann = [await b.ask(ClaimKeys(4, number, dialog, [ann.person.device])) for number in range(1, 4)]
        assert [each.keys[0].fallback for each in of_ann] == [False, False, True]
        assert (await a.ask(ann.command())).fallback_used
        claims = [await a.ask(ClaimKeys(4, n, dialog, [bo.person.device, ann.person.device])) for n in (1, 2, 3, 4)]
        assert [each.keys[0].fallback for each in claims] == [False, False, True, True]
    assert node.node._keys.claimed == {"one_time": 4, "fallback": 3, "none": 4}


async def test_nobody_uses_up_the_rate_of_a_device_whose_keys_they_do_not_get(node: Running) -> None:
    ann, bo, dialog = await make_pair(node)
    eve, fay, elsewhere = await make_pair(node)
    async with node.live(ann.person) as a, node.live(bo.person) as b, node.live(eve.person) as e:
        for wire, keyed in ((a, ann), (b, bo), (e, eve)):
            await wire.ask(keyed.command())
        for number, place in ((1, elsewhere), (2, dialog)):
            await e.ask(ClaimKeys(4, number, place, [ann.person.device, ann.person.device, fay.person.device]))
        of_ann = [await b.ask(ClaimKeys(4, number, dialog, [ann.person.device])) for number in (1, 2)]
        assert [each.keys[0].fallback for each in of_ann] == [False, False]


class Logged:
    """The identity of a person, and their log as far as it is appended."""

    def __init__(self, keyed: Keyed) -> None:
        self.keyed = keyed
        self.identity = OwnIdentity(keyed.person.principal, 1)
        self.state, self.first = self.identity.start(b"", 1)

    def added(self, keys: DevicePublic | None = None, at_ms: int = 2) -> bytes:
        """The entry that adds the device."""
        return self.entry(LogAction.ADDED, keys or self.keyed.own.public, at_ms)

    def entry(self, action: LogAction, keys: DevicePublic | None = None, at_ms: int = 2) -> bytes:
        """An entry about the device, after what there is."""
        device, master = self.keyed.person.device, self.identity.master
        return next_entry(self.state, action, device, keys, at_ms=at_ms, master=master)


async def code(wire: Wire, *entries: bytes) -> str:
    """What an addition is refused with; empty when it is not."""
    answer = await wire.ask(AppendDeviceLog(9, list(entries)))
    return "" if isinstance(answer, Done) else str(answer.code)


async def test_a_log_and_an_identity_are_read_by_who_shares_a_dialog(
    server: Running, pair: tuple[Keyed, Keyed, bytes]
) -> None:
    ann, bo, dialog = pair
    log, me = Logged(ann), ann.person.principal
    added = log.added()
    objects = log.identity.objects()
    async with server.live(ann.person) as a, server.live(bo.person) as b:
        put = PutIdentity(8, objects.master, objects.self_signing, objects.user_signing)
        assert (await a.ask(put)).code == "keys_refused"  # there is no log yet
        await a.ask(ann.command())
        assert await code(a, log.first, log.added(bo.own.public)) == "keys_missing"
        assert await code(a, log.first, added) == ""
        assert await code(a, log.first, added) == ""  # a repetition
        assert isinstance(await a.ask(put), Done)
        ((person),) = (await b.ask(ReadDevices(5, dialog, [KnownLog(me)]))).people
        state = fold(me, person.entries)
        assert (person.generation, person.length, person.head) == (1, 2, state.head)
        assert state.devices == {ann.person.device: ann.own.public}
        assert (person.master, person.user_signing) == (objects.master, objects.user_signing)
        (person,) = (await b.ask(ReadDevices(5, dialog, [KnownLog(me, 1, 1)]))).people
        assert person.entries == [added]


async def test_an_entry_that_is_not_signed_or_comes_too_late_is_refused(
    server: Running, pair: tuple[Keyed, Keyed, bytes]
) -> None:
    ann, bo, _ = pair
    log, other = Logged(ann), Logged(ann)
    async with server.live(ann.person) as a:
        await a.ask(ann.command())
        assert await code(a, Logged(bo).first) == "keys_refused"
        assert await code(a, log.added()) == "keys_refused"  # nothing has begun
        assert await code(a, log.first) == ""
        assert await code(a, edited(log.added(), at_ms=3)) == "keys_refused"
        late = log.added(at_ms=3)
        assert await code(a, log.added()) == ""
        assert await code(a, late) == "log_passed"
        assert await code(a, other.first) == "log_passed"  # the same generation
        after = extend(log.state, [log.added()])
        unlinked = OwnIdentity(ann.person.principal, 2).start(bytes(32), 1)[1]
        assert await code(a, unlinked) == "log_passed"
        assert await code(a, OwnIdentity(ann.person.principal, 2).start(after.head, 1)[1]) == ""


async def test_no_identity_takes_the_generations_of_those_after_it(
    server: Running, pair: tuple[Keyed, Keyed, bytes]
) -> None:
    me = pair[0].person
    async with server.live(me) as a:
        assert (
            await code(a, OwnIdentity(me.principal, IDENTITIES_AHEAD_MAX + 1).start(bytes(32), 1)[1]) == "keys_refused"
        )
        assert await code(a, OwnIdentity(me.principal, IDENTITIES_AHEAD_MAX).start(bytes(32), 1)[1]) == ""


async def test_entries_of_a_day_are_bounded(node: Running) -> None:
    ann, *_ = await make_pair(node)
    log = Logged(ann)
    async with node.live(ann.person) as a:
        await a.ask(ann.command())
        codes = [await code(a, log.first)]
        for number in (2, 3, 4):
            state, first = OwnIdentity(ann.person.principal, number).start(log.state.head, 1)
            codes.append(await code(a, first))
            log.state = state
        assert codes == ["", "", "", "daily_limit"]


async def test_a_device_that_its_person_removes_is_signed_out(
    server: Running, pair: tuple[Keyed, Keyed, bytes]
) -> None:
    ann, *_ = pair
    log = Logged(ann)
    async with server.live(ann.person) as a:
        await a.ask(ann.command())
        added = log.added()
        await code(a, log.first, added)
        log.state = extend(log.state, [added])
        other = Person(ann.person.principal)
        await server.world.pool.execute("INSERT INTO devices VALUES ($1, $2, 0)", other.device, other.principal)
        await server.world.another_sign_in(other)
        async with server.live(other) as o:
            assert await code(o, log.entry(LogAction.REMOVED)) == ""
            assert await a.close_code() == CloseCode.SIGNED_OUT
            assert isinstance(await o.ask(Keyed(other).command()), KeysUploaded)
    async with server.connected() as again:
        await again.send(Authenticate(1, server.token(ann.person)))
        await again.send(Sync(2))
        assert (await again.until(Failed)).code == ErrorCode.SIGNED_OUT


async def test_a_device_that_signs_in_is_announced_to_those_who_encrypt_for_it(
    server: Running, pair: tuple[Keyed, Keyed, bytes]
) -> None:
    ann, bo, _ = pair
    dialog = await server.world.create(
        DialogType.GROUP, ann.person, bo.person, await server.world.person(), mode=Mode.SEALED
    )
    log = Logged(ann)
    async with server.live(ann.person) as a, server.live(bo.person) as b:
        await a.ask(ann.command())
        added = log.added()
        await code(a, log.first, added)
        event = await b.until(TimelineEvent)
        head = extend(log.state, [added]).head
        assert (event.dialog, event.body) == (dialog, DevicesChanged(ann.person.principal, LogHead(1, 2, head)))


async def test_a_page_of_devices_is_no_larger_than_a_reply(server: Running) -> None:
    people = await server.world.people(40)
    dialog = await server.world.create(DialogType.GROUP, *people)
    await server.world.pool.execute(
        "INSERT INTO device_keys (device_id, principal_id, generation, ed25519, curve25519, keys)"
        " SELECT uuidv7(), p, 1, uuid_send(uuidv7()), uuid_send(uuidv7()), convert_to(repeat('x', 2048), 'UTF8')"
        " FROM unnest($1::uuid[]) p, generate_series(1, 10)",
        [person.principal for person in people],
    )
    wanted = [person.principal for person in people]
    async with AsyncExitStack() as stack:
        for codec in CODECS.values():
            wire = await stack.enter_async_context(server.live(people[0], codec))
            left = list(wanted)
            pages = 0
            while left:
                page = await wire.ask(ReadDevices(5, dialog, [KnownLog(each) for each in left]))
                assert len(codec.encode(page)) <= REPLY_BYTES_MAX
                assert [each.principal for each in page.people] == left[: len(page.people)]
                left = left[len(page.people) :]
                assert page.more is bool(left)
                pages += 1
            assert pages > 2
