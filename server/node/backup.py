"""`tchat backup`, `tchat restore`, and those of `tchat commerce`: one file with an embedded database and its keys.

The file is a ZIP archive: `manifest.json`, the files of the data folder's `keys/`, and `database.dump` (see
`storage/embedded/dump.py`).

Invariants: a backup has its name when it is whole, on disk, and was read back from its first to its last byte; it is
readable by its owner alone. A restore makes a data folder with another name, and renames it when it is whole. Neither
overwrites anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import importlib.metadata
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import asyncpg
import msgspec

from server.config.settings import Config
from server.identity.key_files import KEY_FILES, KEY_FOLDER
from server.node.postgres_start import visited_postgres
from storage.embedded import dump
from storage.embedded.cluster import EmbeddedPostgres
from storage.embedded.install import EmbeddedError
from storage.postgres.migrate import CHAT_SCHEMA, Schema, is_current

_FORMAT = 1
_MANIFEST, _DATABASE = "manifest.json", "database.dump"
_SHOW_EVERY_BYTES = 100_000_000
_KEY_BYTES_MAX = 1_000_000

Show = Callable[[str], None]


class BackupError(Exception):
    """There is no backup or no restore; the message says why and what to do."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup is of."""

    format: int
    tchat: str
    made_at: str
    keys: list[str]
    """Files of the data folder's `keys/` that are in it."""
    configured: list[str] = []
    """Keys that are not in it, because they were configured."""


@dataclass(frozen=True)
class Kept:
    """Whose data it is: the section of its settings, its schema with a table of it, and its keys in `keys/`."""

    section: str
    schema: Schema
    table: str
    keys_section: str
    keys: Mapping[str, str]
    configured: Callable[[Config], Collection[str]]
    after: str


OF_THE_CHAT = Kept(
    section="storage",
    schema=CHAT_SCHEMA,
    table="deployment",
    keys_section="identity",
    keys=KEY_FILES,
    configured=lambda config: [key for key in KEY_FILES if getattr(config.identity, key)],
    after="The next `tchat serve` begins an epoch: every client reads its dialogs anew, once.",
)


def backup(config: Config, file: Path, show: Show, of: Kept = OF_THE_CHAT) -> None:
    """Write the backup `file`; a server may run meanwhile. Raises BackupError, DataFolderError, EmbeddedError."""
    if config.storage.postgres_url:
        raise BackupError(
            f"{of.section}.postgres_url is set: "
            "back up that PostgreSQL with its own tools (docs/deployment.md, Backups)."
        )
    if file.exists():
        raise BackupError(f"{file} exists, and a backup overwrites nothing: name another file.")
    with visited_postgres(config) as url, _fresh_file(file) as fresh:
        if url is None:
            raise BackupError(f"There is no database in {config.server.data_dir} yet.")
        manifest = _write(config, url, fresh, show, of)
        show("Reading it back.")
        fresh.seek(0)
        _check(fresh, show)
        show(f"Backed up to {file}: {_mb(fresh.seek(0, os.SEEK_END))}, as of {manifest.made_at}.")
    if config.storage.cql_hosts and of is OF_THE_CHAT:
        show("Not in the backup: the archive of storage.cql_hosts, which may have all there is of old messages.")
    for line in _about_keys(manifest, of):
        show(line)


def restore(config: Config, file: Path, show: Show, of: Kept = OF_THE_CHAT) -> None:
    """Make the data folder from a backup. Raises BackupError, DataFolderError, EmbeddedError, MigrationError."""
    if config.storage.postgres_url:
        raise BackupError(
            f"{of.section}.postgres_url is set: a restore makes a data folder with a PostgreSQL of its own."
        )
    folder = config.server.data_dir.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BackupError(f"{folder} is not empty, and a restore overwrites nothing: move it away.")
    try:
        with file.open("rb") as opened:
            manifest = _read_manifest(opened, file)
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
            try:
                _fill(fresh, opened, manifest, show, of)
                if folder.exists():
                    folder.rmdir()
                fresh.rename(folder)
            except BaseException:
                shutil.rmtree(fresh, ignore_errors=True)
                raise
    except OSError as error:
        raise BackupError(f"{file} cannot be restored to {folder}: {error}.") from error
    show(f"Restored {folder} as of {manifest.made_at}.")
    show(of.after)
    for key in manifest.configured:
        name = f"{of.keys_section}.{key}"
        show(f"{name} was configured: configure the same one before the first start, a new one does not fit.")


# -- a backup


def _write(config: Config, url: str, target: IO[bytes], show: Show, of: Kept) -> Manifest:
    keys = config.server.data_dir / KEY_FOLDER
    files = sorted(path for path in keys.glob("*") if path.is_file()) if keys.is_dir() else []
    asyncio.run(_refuse_other(url, of))
    manifest = Manifest(
        format=_FORMAT,
        tchat=importlib.metadata.version("tchat"),
        made_at=dt.datetime.now(dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        keys=[path.name for path in files],
        configured=list(of.configured(config)),
    )
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr(_MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
        for path in files:
            archive.writestr(f"{KEY_FOLDER}/{path.name}", path.read_bytes())
        with archive.open(_DATABASE, "w", force_zip64=True) as stream:
            dump.dump(url, stream, _progress("Read from the database", show))
    target.flush()
    os.fsync(target.fileno())
    return manifest


async def _refuse_other(url: str, of: Kept) -> None:
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("SELECT to_regclass($1)", of.table) is None:
            raise BackupError("The database has no schema, or another one: there is nothing to back up or to restore.")
    finally:
        await connection.close()


def _about_keys(manifest: Manifest, of: Kept) -> Iterator[str]:
    """Which keys are in the backup, and which somebody must keep elsewhere."""
    for key, name in of.keys.items():
        if key in manifest.configured:
            yield f"Not in the backup: {of.keys_section}.{key}, which is configured: keep it, too, and not beside it."
        elif name in manifest.keys:
            yield f"In the backup: {of.keys_section}.{key} ({name}). Who has the file has the key."
        else:
            yield f"Not in the backup: {of.keys_section}.{key}. There is none yet: the first start makes it."


def _check(source: IO[bytes], show: Show) -> None:
    """Read every byte as a restore would; raises EmbeddedError and BadZipFile."""
    with zipfile.ZipFile(source) as archive:
        for name in archive.namelist():
            if name != _DATABASE:
                archive.read(name)
        with archive.open(_DATABASE) as stream:
            dump.check(stream, _progress("Read back", show))


@contextlib.contextmanager
def _fresh_file(file: Path) -> Iterator[IO[bytes]]:
    """A new file of the owner alone, which gets its name at the end."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "w+b") as opened:
                yield opened
            os.link(fresh, file)  # unlike a rename, this refuses to overwrite
        finally:
            fresh.unlink()
        _sync_folder(file.parent)
    except (OSError, zipfile.BadZipFile) as error:
        raise BackupError(f"{file} cannot be written: {error}.") from error


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


# -- a restore


def _read_manifest(source: IO[bytes], file: Path) -> Manifest:
    try:
        with zipfile.ZipFile(source) as archive:
            manifest = msgspec.json.decode(archive.read(_MANIFEST), type=Manifest)
    except (zipfile.BadZipFile, KeyError, msgspec.MsgspecError) as error:
        raise BackupError(f"{file} is no whole backup of tchat: {error}.") from error
    if manifest.format != _FORMAT:
        raise BackupError(f"{file} was made by tchat {manifest.tchat}, which is newer: restore it with that version.")
    return manifest


def _fill(folder: Path, source: IO[bytes], manifest: Manifest, show: Show, of: Kept) -> None:
    with zipfile.ZipFile(source) as archive, EmbeddedPostgres(folder) as postgres:
        total = archive.getinfo(_DATABASE).file_size
        show(f"Restoring {_mb(total)}.")
        try:
            with archive.open(_DATABASE) as stream:
                dump.load(postgres.url, stream, _progress("Restored", show, total))
        except zipfile.BadZipFile as error:
            raise EmbeddedError(f"The backup is damaged: {error}.") from error
        asyncio.run(_refuse_other(postgres.url, of))
        asyncio.run(_refuse_newer(postgres.url, of))
        keys = folder / KEY_FOLDER
        keys.mkdir(mode=0o700)
        for name in manifest.keys:
            with archive.open(f"{KEY_FOLDER}/{Path(name).name}") as stream:
                _write_key(keys / Path(name).name, stream.read(_KEY_BYTES_MAX))


async def _refuse_newer(url: str, of: Kept) -> None:
    """Raise MigrationError if this version is too old for what was restored."""
    connection = await asyncpg.connect(url)
    try:
        await is_current(connection, of.schema)
    finally:
        await connection.close()


def _write_key(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


# -- both


def _progress(what: str, show: Show, total: int = 0) -> dump.Progress:
    done = shown = 0

    def note(size: int) -> None:
        nonlocal done, shown
        done += size
        if done - shown >= _SHOW_EVERY_BYTES:
            shown = done
            show(f"{what}: {_mb(done)}" + (f" of {_mb(total)}." if total else "."))

    return note


def _mb(size: int) -> str:
    return f"{size / 1_000_000:.1f} MB"
