"""What came of a run of sealed conversations: what every device saw, against what the database says of who may read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import asyncpg

from protocol.bodies import Edited, Posted, Reacted, TimelineEvent, decode_body, tag_of
from protocol.public_keys import DevicePublic
from tchat.crypto.envelope import Opened, Received
from tchat.crypto.machine import CryptoMachine
from tchat.crypto.olm import KnownDevice
from tchat.encryption.contents import content_of, place_of
from tests.adversity.sealed_devices import OF_LOGS, Seen, Where

_EVENTS = """
SELECT j.dialog_id, j.seq, j.author_id, j.device_id, j.n, j.at_ms, j.messages, j.body
FROM journal j JOIN heads h USING (dialog_id) WHERE h.mode = 1 AND j.tag = ANY ($1) ORDER BY j.dialog_id, j.seq
"""
_READERS = """
SELECT DISTINCT l.device_id, l.principal_id
FROM roster_intervals r JOIN log_devices l USING (principal_id)
WHERE r.dialog_id = $1 AND r.from_seq <= greatest($2, 1) AND r.until_seq > greatest($2, 1)
  AND l.since < r.length AND (l.until IS NULL OR l.until >= r.length)
"""
_MEMBERS = "SELECT dialog_id, principal_id FROM members WHERE member"
_SLICES = "SELECT device_id, body FROM slices WHERE to_device = $1 ORDER BY number"
_DEVICES = "SELECT principal_id, device_id, ed25519, curve25519 FROM log_devices"


@dataclass
class Sealed:
    """A sealed event, and the devices that may read it by logs and members at its `keys_seq`, each with its person."""

    event: TimelineEvent
    readers: Mapping[bytes, bytes]

    @property
    def where(self) -> Where:
        return self.event.dialog, self.event.seq


async def read_sealed(pool: asyncpg.Pool) -> list[Sealed]:
    """All sealed events of the database."""
    found: list[Sealed] = []
    readers: dict[Where, dict[bytes, bytes]] = {}
    rows = await pool.fetch(_EVENTS, [tag_of(each) for each in (Posted, Edited, Reacted)])
    for dialog, seq, author, device, n, at_ms, messages, body in rows:
        event = TimelineEvent(dialog, seq, author, device, n, at_ms, messages, decode_body(body))
        content = content_of(event)
        if content is None:
            continue
        key = event.dialog, content.header.keys_seq
        if key not in readers:
            readers[key] = {row["device_id"]: row["principal_id"] for row in await pool.fetch(_READERS, *key)}
        found.append(Sealed(event, readers[key]))
    return found


async def read_devices(pool: asyncpg.Pool) -> dict[bytes, KnownDevice]:
    """All devices that ever were in a log."""
    rows = await pool.fetch(_DEVICES)
    return {device: KnownDevice(principal, device, DevicePublic(*keys)) for principal, device, *keys in rows}


async def read_members(pool: asyncpg.Pool) -> set[tuple[bytes, bytes]]:
    """Who is in which dialog now."""
    return {(dialog, principal) for dialog, principal in await pool.fetch(_MEMBERS)}


async def open_with_database(
    pool: asyncpg.Pool, machine: CryptoMachine, sealed: Iterable[Sealed], known: Mapping[bytes, KnownDevice]
) -> set[Where]:
    """What a device can open that has the whole database: all slices for it, live or not, and all events."""
    slices = await pool.fetch(_SLICES, machine.device)
    machine.receive([(known[row["device_id"]], row["body"]) for row in slices if row["device_id"] in known])
    opened = set()
    for one in sealed:
        (outcome,) = machine.open([_received(one.event)])
        if isinstance(outcome, Opened):
            opened.add(one.where)
    return opened


def _received(event: TimelineEvent) -> Received:
    body = content_of(event)
    assert body is not None, "only sealed events are opened"
    header = body.header
    assert header.session is not None, "the server takes no other ones"
    assert header.commitment is not None, "the server takes no other ones"
    return Received(place_of(event, body), event.seq, body.payload, header.session, header.commitment, None)


def count_seen(
    sealed: Iterable[Sealed],
    seen: Mapping[bytes, Mapping[Where, Seen]],
    ended: Collection[bytes],
    members: Collection[tuple[bytes, bytes]],
) -> Counter[str]:
    """What devices made of events as they got them.

    Of those that were `ended` it is no loss what they did not get, or had keys for and waited for a log or a roster of.
    `members` are (dialog, person) now. The server shows a former member no logs and no roster: what their device had
    not checked before, it has keys for, but it may not know the device that wrote it, or who the members were.
    """
    counts: Counter[str] = Counter()
    for one in sealed:
        for device in one.readers.keys() & seen.keys():
            made = seen[device].get(one.where)
            if made is None:
                counts["undecrypted_ever"] += device not in ended
                continue
            is_former = (one.event.dialog, one.readers[device]) not in members
            closed = is_former and made.first in OF_LOGS and made.last in OF_LOGS
            waited = device in ended and made.last in OF_LOGS
            counts["closed_to_former"] += closed
            counts["deliveries"] += made.last is None
            counts["undecrypted_ever"] += made.last is not None and not closed and not waited
            counts["waited_for_logs"] += made.first in OF_LOGS
            counts["undecrypted_at_receipt"] += made.first is not None and made.first not in OF_LOGS
    return counts


def count_opened(sealed: Iterable[Sealed], person: bytes, device: bytes, opened: Collection[Where]) -> Counter[str]:
    """What a device could open that it may not read; after it could read in that dialog once, or never.

    What its person could read before it came, other devices of theirs may hand on.
    """
    counts: Counter[str] = Counter()
    read_before: set[bytes] = set()
    for one in sealed:
        if device in one.readers:
            read_before.add(one.event.dialog)
        elif one.where in opened:
            if one.event.dialog in read_before:
                counts["read_after_removal"] += 1
            else:
                counts["read_by_others"] += person not in one.readers.values()
    return counts


def count_reused(sealed: Iterable[Sealed]) -> int:
    """How many events are sealed with a key that another one is sealed with."""
    uses: Counter[tuple[bytes, int]] = Counter()
    for one in sealed:
        received = _received(one.event)
        uses[received.session, _index_of(received.payload)] += 1
    return sum(count - 1 for count in uses.values())


def _index_of(payload: bytes) -> int:
    """The index of a Megolm message: a version, then a field 1 as a protobuf varint."""
    assert payload[:2] == b"\x03\x08", "a Megolm message"
    index = 0
    for shift, byte in enumerate(payload[2:]):
        index |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            break
    return index
