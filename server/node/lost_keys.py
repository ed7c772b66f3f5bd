"""`tchat commerce give-up-keys`: neither folder has the keys of people, and the operator goes on without them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from server.node.commerce_settings import connected
from server.startup_error import StartupError
from storage.commerce.personal_records import PersonalRecords
from storage.commerce.personal_rows import GivenUp
from storage.commerce.schema import MONEY_SCHEMA
from storage.person_keys.person_key_store import PersonKeysError, read_stores
from storage.postgres.migrate import migrate

_STATEMENT_TIMEOUT_S = 30.0
_KEYS_TOGETHER = 50
_WHAT_IS_LOST = """\
{keys} keys of people are in use in the database, with {items} items under them, {kept} of which the law wants kept.
These keys are neither in {one} ({of_one}) nor in {other} ({of_other}).
Make sure that these are the folders of this deployment, that their disks are mounted, and that there is no backup of
either. Then nobody can read any more what is sealed: addresses, identities, copies for orders, exports. With --accept
that is deleted, and people begin anew; money and orders stay. Nothing was changed."""


async def give_up(url: str, folders: tuple[Path, Path], *, accept: bool, show: Callable[[str], None]) -> bool:
    """Show what is lost; with `accept` delete it. Whether that was done. Raises StartupError."""
    async with connected(url, _STATEMENT_TIMEOUT_S) as (writes, reads):
        records = PersonalRecords(writes, reads)
        await _check_lost(records, folders)
        if not accept:
            show(_describe(await records.count_sealed(), folders))
            return False
        if await records.count_others():
            raise StartupError("Others are connected to this database: stop every `tchat commerce` and `tchat relay`.")
        await migrate(url, schema=MONEY_SCHEMA)
        await _delete(records, show)
        return True


async def _check_lost(records: PersonalRecords, folders: tuple[Path, Path]) -> None:
    expected = await records.read_store()
    if expected is None:
        raise StartupError("There is nothing to give up: this database names no keys of people.")
    try:
        stores = read_stores(folders)
    except PersonKeysError as error:
        raise StartupError(str(error)) from error
    for folder, store in zip(folders, stores, strict=True):
        if store == expected:
            raise StartupError(f"{folder} has keys of this database: `tchat commerce` makes the other folder again.")
        if store is not None:
            raise StartupError(f"{folder} has keys of another database: set the folders of this one, or move it away.")


def _describe(lost: GivenUp, folders: tuple[Path, Path]) -> str:
    one, other = folders
    return _WHAT_IS_LOST.format(
        keys=lost.keys,
        items=lost.items,
        kept=lost.kept_by_law,
        one=one,
        of_one=_look_of(one),
        other=other,
        of_other=_look_of(other),
    )


def _look_of(folder: Path) -> str:
    return "without keys" if folder.is_dir() else "no such folder"


async def _delete(records: PersonalRecords, show: Callable[[str], None]) -> None:
    lost = GivenUp()
    while (more := await records.give_up_keys(_KEYS_TOGETHER)).keys:
        lost = GivenUp(lost.keys + more.keys, lost.items + more.items, lost.kept_by_law + more.kept_by_law)
        show(f"{lost.keys} keys, and {lost.items} items under them; {lost.kept_by_law} of these the law wants kept")
    show("`tchat commerce` can start, with new keys. The audit has a line `give_up_key` for each key, with its person.")
