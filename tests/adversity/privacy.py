"""Personal data of many people: `python -m tests.adversity.privacy --people 1000 --seed N`.

They store addresses, identities and copies for orders with marks, and export all of it, over HTTP to `tchat commerce`
as a process. Database and keys are saved; then some are erased. Looked for are:

- `found_clear`: a mark in a dump of all tables, in the files of PostgreSQL with its log of writes, in the backup, in
  the folders of keys, in the service's log; as text, in hex, base64 and UTF-16.
- `found_after_erasure`: what a person who is erased can still read; a wrapped key of theirs in a file of now; and after
  the older database and the older keys are restored (one folder of keys may be lost altogether) and the service has
  started: what is read, or opens with any key that is there.
- `legal_lost`: an identity or a copy for an order that is not answered as it was stored, before and after the restore.

Prints one JSON line, and exits with 1 unless each of them is 0. `--break NAME` makes the service wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import logging
import random
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from protocol.ids import to_text
from server.commerce.personal.item_sealing import HeldKey, SealedPlace, SealError, unseal
from server.node.commerce_settings import PERSONAL_KEY_FILE
from storage.commerce.personal_rows import ItemKind, KeyKind
from storage.person_keys import key_copy
from storage.person_keys.person_key_store import unwrap
from tests.adversity.plaintext_search import Search
from tests.adversity.privacy_breaks import BREAKS
from tests.adversity.privacy_stage import MarkedPerson, PrivacyStage, RefusedError

COUNTS = ("found_clear", "found_after_erasure", "legal_lost")
_AT_ONCE = 8
_LOOK_S = 0.2
_EXPORTING = 5
"""Every so manieth person exports what they have."""


async def try_privacy(folder: Path, people: int, seed: int, prelude: str = "") -> dict[str, Any]:
    """A run in an empty folder; what came of it."""
    begun_s = time.monotonic()
    rng = random.Random(seed)
    stage = PrivacyStage(folder, rng, prelude)
    crowd = [MarkedPerson(rng, stage.marks) for _ in range(people)]
    counts = dict.fromkeys(COUNTS, 0)
    try:
        await stage.start_postgres()
        await stage.start_service()
        await _each(crowd, lambda who: store(stage, who))
        await _each(crowd[::_EXPORTING], lambda who: export(stage, who))
        await stage.stop()
        stage.save()
        await stage.start_postgres()
        await stage.start_service()
        leaving = rng.sample(crowd, people // 3)
        await _each(leaving, lambda who: erase(stage, who))
        await count_left(stage, crowd, counts)
        dump = await stage.dump()
        await stage.stop()
        counts["found_after_erasure"] += count_keys_left(stage, await erased_keys(stage))
        search = await asyncio.to_thread(stage.search, dump)
        await restore(stage, crowd, counts)
        after = await asyncio.to_thread(stage.search, b"")
    finally:
        await stage.stop()
    counts["found_clear"] = len(search.found) + len(after.found)
    for found in [*search.found, *after.found][:20]:
        print("found", found, file=sys.stderr)  # noqa: T201 - a command prints
    return {
        "people": people,
        "erased": len(leaving),
        "marks": stage.marks.made,
        "places": search.places + after.places,
        "megabytes": (search.bytes + after.bytes) >> 20,
        "seconds": round(time.monotonic() - begun_s, 1),
        "seed": seed,
        **counts,
    }


async def store(stage: PrivacyStage, who: MarkedPerson) -> None:
    """A person stores all that there is to store."""
    who.address = (await stage.ask("POST", "addresses", who.home, who=who))["id"]
    await stage.ask("POST", f"addresses/{who.address}/replace", who.home, who=who)
    await stage.ask("POST", "identity", {"identity": who.identity}, who=who)
    await stage.ask("POST", "legal-copies", {"order": who.order, "address": who.address}, who=who)
    await stage.ask("POST", "wallets", {"currency": "THB"}, who=who)


async def export(stage: PrivacyStage, who: MarkedPerson) -> None:
    """A person exports it; it must have what they stored."""
    who.export = (await stage.ask("POST", "exports", {}, who=who))["id"]
    while (made := await stage.ask("GET", f"exports/{who.export}", who=who))["state"] != "complete":  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_S)
    parts = [await stage.ask("GET", f"exports/{who.export}/parts/{n}", who=who) for n in range(made["parts"])]
    rows = [row for part in parts for row in part["rows"]]
    assert any(row.get("address") == who.home for row in rows), "an export lacks an address"
    assert any(row.get("identity") == who.identity for row in rows), "an export lacks the identity"


async def erase(stage: PrivacyStage, who: MarkedPerson) -> None:
    """A person is erased, by themselves or by the platform."""
    by_platform = stage.rng.random() < 0.5
    body = {"person": to_text(who.id)} if by_platform else {}
    made = await stage.ask("POST", "erasures", body, who=None if by_platform else who)
    while made["state"] != "erased":
        await asyncio.sleep(_LOOK_S)
        made = await stage.ask("GET", f"erasures/{made['id']}")
    who.erased = True


async def count_left(stage: PrivacyStage, crowd: Sequence[MarkedPerson], counts: dict[str, int]) -> None:
    """Ask for everything: what must be gone is, what must be left is."""

    async def look(who: MarkedPerson) -> None:
        about = f"person={to_text(who.id)}"
        identity = await _try(stage.ask("GET", f"identity?{about}"))
        copy = await _try(stage.ask("GET", f"legal-copies/{who.order}?{about}"))
        counts["legal_lost"] += identity is None or identity["identity"] != who.identity
        counts["legal_lost"] += copy is None or (copy["address"], copy["identity"]) != (who.home, who.identity)
        addresses = await _try(stage.ask("GET", "addresses", who=who))
        if not who.erased:
            assert addresses is not None
            assert [each["address"] for each in addresses["addresses"]] == [who.home], "an address is lost"
            return
        reads = [f"addresses/{who.address}", *([f"exports/{who.export}"] if who.export else [])]
        counts["found_after_erasure"] += bool(addresses and addresses["addresses"])
        counts["found_after_erasure"] += sum(
            [await _try(stage.ask("GET", path, who=who)) is not None for path in reads]
        )
        counts["found_after_erasure"] += await _try(stage.ask("POST", "addresses", who.home, who=who)) is not None

    await _each(crowd, look)


async def erased_keys(stage: PrivacyStage) -> list[bytes]:
    """The ids of all profile keys of erased people, as the database of now has them."""
    await stage.start_postgres()
    connection = await asyncpg.connect(stage.url)
    try:
        rows = await connection.fetch(
            "SELECT k.key_id FROM personal_keys k JOIN personal_erasures USING (person_id) WHERE k.key_kind = $1",
            int(KeyKind.PROFILE),
        )
    finally:
        await connection.close()
        await stage.stop()
    return [row[0].bytes for row in rows]


def count_keys_left(stage: PrivacyStage, erased: Sequence[bytes]) -> int:
    """How many wrapped keys, which the backup has, are still in a file of now."""
    with sqlite3.connect(stage.saved / stage.keys[0].name / key_copy.FILE_NAME) as saved:
        wrapped = dict(saved.execute("SELECT key_id, wrapped FROM keys").fetchall())
    sought = {key_id.hex(): wrapped[key_id][:32] for key_id in erased}
    assert sought, "nobody was erased"
    search = Search(sought)
    for folder in stage.keys:
        search.through_folder(folder.name, folder)
    return len(search.found)


async def restore(stage: PrivacyStage, crowd: Sequence[MarkedPerson], counts: dict[str, int]) -> None:
    """Bring back the older database and the older keys, start, and look at all of it again."""
    counts["found_after_erasure"] += not stage.lists_are_there()
    stage.restore(lost=stage.rng.choice([None, 0, 1]))
    await stage.start_postgres()
    sealed = await _profile_items(stage)
    await stage.start_service()
    await count_left(stage, crowd, counts)
    await stage.stop()
    left = {who.id for who in crowd if who.erased}
    keys = _present_keys(stage)
    for person, item, key_id, box in sealed:
        if person in left and (wrapped := keys.get(key_id)) is not None:
            counts["found_after_erasure"] += _opens(HeldKey(key_id, wrapped), person, item, box)


async def _profile_items(stage: PrivacyStage) -> list[tuple[bytes, bytes, bytes, bytes]]:
    connection = await asyncpg.connect(stage.url)
    try:
        rows = await connection.fetch(
            "SELECT person_id, item_id, key_id, sealed FROM personal_items WHERE kind = $1", int(ItemKind.ADDRESS)
        )
    finally:
        await connection.close()
    return [(row[0].bytes, row[1].bytes, row[2].bytes, row[3]) for row in rows]


def _present_keys(stage: PrivacyStage) -> dict[bytes, bytes]:
    """Keys that any of the two folders has, in clear."""
    master = base64.b64decode((stage.folder / "data" / "keys" / PERSONAL_KEY_FILE).read_text())
    found: dict[bytes, bytes] = {}
    for folder in stage.keys:
        with sqlite3.connect(folder / key_copy.FILE_NAME) as copy:
            rows = copy.execute("SELECT key_id, wrapped FROM keys").fetchall()
        found |= {key_id: unwrap(master, key_id, wrapped) for key_id, wrapped in rows if any(wrapped)}
    return found


def _opens(key: HeldKey, person: bytes, item: bytes, box: bytes) -> bool:
    try:
        unseal(key, SealedPlace(ItemKind.ADDRESS, person, item), box, dict)
    except SealError:
        return False
    return True


async def _try(call: Awaitable[Any]) -> Any:
    """What a call answers; None when it is refused."""
    try:
        return await call
    except RefusedError:
        return None


async def _each(crowd: Sequence[MarkedPerson], act: Callable[[MarkedPerson], Awaitable[None]]) -> None:
    """All of them, some at once."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(who: MarkedPerson) -> None:
        async with gate:
            await act(who)

    async with asyncio.TaskGroup() as group:
        for who in crowd:
            group.create_task(one(who))


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.adversity.privacy", description=__doc__)
    parser.add_argument("--people", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--break", dest="broken", choices=sorted(BREAKS), metavar="NAME", help=", ".join(BREAKS))
    chosen = parser.parse_args()
    logging.getLogger("httpx").setLevel(logging.WARNING)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    prelude = BREAKS[chosen.broken].prelude if chosen.broken else ""
    with (
        tempfile.TemporaryDirectory(prefix="tchat-privacy-") as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        said = runner.run(try_privacy(Path(folder), chosen.people, chosen.seed, prelude))
    print(json.dumps(said))  # noqa: T201 - a command prints
    return 1 if any(said[name] for name in COUNTS) else 0


if __name__ == "__main__":
    sys.exit(main())
