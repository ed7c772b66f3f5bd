"""People whose devices have keys, so that others encrypt for them: stored straight, and no client's."""

from __future__ import annotations

from protocol.bodies import Header
from protocol.ids import new_id
from protocol.replies import SlicesUploaded
from protocol.share_commands import Slice, UploadSlices
from storage.postgres.shares import PostgresShares
from storage.shares import StagedSlices
from tests.support.harness import Wire
from tests.support.world import Person, World

_KEYS = """
WITH log AS (
    INSERT INTO log_devices (principal_id, since, device_id, ed25519, curve25519)
    SELECT $1, count(*), $2, $3, $4 FROM log_devices WHERE principal_id = $1)
INSERT INTO device_keys (device_id, principal_id, generation, ed25519, curve25519, keys)
VALUES ($2, $1, 1, $3, $4, 'keys')
"""


async def one_device_of(world: World) -> Person:
    """A person with one device that has keys."""
    person = await world.person()
    await give_keys(world, person)
    return person


async def another_device_of(world: World, person: Person) -> Person:
    """The same person on another device that has keys."""
    other = Person(person.principal)
    await world.pool.execute("INSERT INTO devices VALUES ($1, $2, 0)", other.device, other.principal)
    await world.another_sign_in(other)
    await give_keys(world, other)
    return other


async def keys_end(world: World, person: Person) -> None:
    """End the sign-in of a device, and with it its keys."""
    await world.pool.execute("UPDATE sign_ins SET revoked_at_ms = 1 WHERE sign_in_id = $1", person.sign_in)


async def give_keys(world: World, person: Person) -> None:
    """List a device in the log of its person, with keys that nobody has."""
    await world.pool.execute(_KEYS, person.principal, person.device, new_id(), new_id())


def sealed(session: bytes, share: bytes | None = None, keys_seq: int = 0, *, reply_to: int | None = None) -> Header:
    """The header of what is sealed under a session; nothing is encrypted."""
    return Header(reply_to=reply_to, keys_seq=keys_seq, commitment=bytes(32), session=session, share=share)


async def upload(
    wire: Wire, dialog: bytes, session: bytes, *to: Person, keys_seq: int = 0, body: bytes = b"keys"
) -> bytes:
    """Upload a share with a slice for each of these devices, all that read the dialog; its id."""
    share = new_id()
    slices = [Slice(person.device, body + person.device) for person in to]
    uploaded = await wire.ask(UploadSlices(98, share, dialog, session, keys_seq, slices))
    assert uploaded == SlicesUploaded(98, complete=True), uploaded
    return share


SHARED = b"a" * 32
"""The session of `share_with_all`."""

_READERS = """
SELECT k.device_id FROM key_devices(ARRAY(SELECT principal_id FROM members WHERE dialog_id = $1 AND member)) k
WHERE k.device_id <> $2
"""


async def share_with_all(world: World, dialog: bytes, person: Person, keys_seq: int = 0) -> bytes:
    """Stage a share of a device that has keys, with a slice for each that reads the dialog; its id."""
    readers = await world.pool.fetch(_READERS, dialog, person.device)
    staged = StagedSlices(
        principal=person.principal,
        device=person.device,
        share=new_id(),
        dialog=dialog,
        session=SHARED,
        keys_seq=keys_seq,
        slices=[(row["device_id"], b"keys") for row in readers],
    )
    answer = await PostgresShares(world.pool).stage(staged, 1)
    assert answer.complete, answer
    return staged.share
