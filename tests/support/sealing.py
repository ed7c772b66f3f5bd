"""People whose devices have keys, so that others encrypt for them: stored straight, and no client's."""

from __future__ import annotations

from protocol.ids import new_id
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
    await _give_keys(world, person)
    return person


async def another_device_of(world: World, person: Person) -> Person:
    """The same person on another device that has keys."""
    other = Person(person.principal)
    await world.pool.execute("INSERT INTO devices VALUES ($1, $2, 0)", other.device, other.principal)
    await world.another_sign_in(other)
    await _give_keys(world, other)
    return other


async def keys_end(world: World, person: Person) -> None:
    """End the sign-in of a device, and with it its keys."""
    await world.pool.execute("UPDATE sign_ins SET revoked_at_ms = 1 WHERE sign_in_id = $1", person.sign_in)


async def _give_keys(world: World, person: Person) -> None:
    await world.pool.execute(_KEYS, person.principal, person.device, new_id(), new_id())
