"""`tchat backup` and `tchat restore`: what was acked before is there; a position from after it is none."""

from __future__ import annotations

import asyncio
import zipfile
from pathlib import Path

import asyncpg
import msgspec
import pytest

from protocol.bodies import TimelineEvent
from protocol.commands import Create, Send
from protocol.dialog_types import DialogType, Mode
from protocol.replies import Synced
from server.config.payment_settings import CommerceServiceSettings
from server.config.setting_types import Secret
from server.config.settings import Config, IdentitySettings, ServerSettings, StorageSettings
from server.identity.key_files import load_signing_keys, load_vault
from server.node.backup import BackupError, Manifest, backup, restore
from server.node.cli import main
from server.node.commerce_settings import load_digest_key
from storage.commerce.restored_books import BooksState, RestoredBooks
from storage.commerce.schema import MONEY_SCHEMA
from storage.embedded.cluster import EmbeddedPostgres
from storage.embedded.install import EmbeddedError
from storage.numbered_files import MigrationError
from storage.postgres.migrate import migrate
from tests.support.harness import running


def in_folder(path: Path) -> Config:
    return Config(server=ServerSettings(data_dir=path))


def quiet(_line: str) -> None:
    """Show nothing."""


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> tuple[Config, Path]:
    """A data folder with keys and a migrated database, whose server is stopped, and its backup."""
    config = in_folder(tmp_path_factory.mktemp("backed up") / "data")
    with EmbeddedPostgres(config.server.data_dir) as postgres:
        asyncio.run(migrate(postgres.url))
    load_signing_keys(config)
    load_vault(config)
    file = config.server.data_dir.parent / "night.backup"
    backup(config, file, quiet)
    return config, file


@pytest.mark.anyio
async def test_all_that_was_acked_before_is_there_and_later_positions_are_none(tmp_path: Path) -> None:
    before, after = in_folder(tmp_path / "before"), in_folder(tmp_path / "after")
    file = tmp_path / "backup"
    with EmbeddedPostgres(before.server.data_dir) as postgres:
        await migrate(postgres.url)
        async with running(postgres.url) as node:
            ann, bo = await node.world.people(2)
            async with node.live(ann) as wire:
                dialog = (await wire.ask(Create(3, 1, DialogType.DIRECT, [bo.principal], mode=Mode.OPEN))).dialog
                acked = (await wire.ask(Send(4, dialog, 2, b"before the backup"))).seq
                writing = asyncio.ensure_future(asyncio.to_thread(backup, before, file, quiet))
                n = 2
                while not writing.done() and n < 15:  # fewer than the window that a first sync gives
                    n += 1
                    await wire.ask(Send(n + 2, dialog, n, b"while it is made"))
                await writing
                await wire.ask(Send(n + 3, dialog, n + 1, b"after the backup"))
            await node.node.horizon.advance()
            async with node.live(ann) as wire:
                position = wire.position
    await asyncio.to_thread(restore, after, file, quiet)
    with EmbeddedPostgres(after.server.data_dir) as postgres:
        async with running(postgres.url) as node, node.live(ann, position=position) as wire:
            assert isinstance(wire.caught_up[0], Synced)
            assert wire.caught_up[0].recovered is False
            there = [event.seq for event in wire.caught_up if isinstance(event, TimelineEvent)]
            assert there == list(range(1, len(there) + 1))
            assert len(there) >= acked
            assert (await wire.ask(Send(9, dialog, n + 2, b"and on"))).seq == len(there) + 1


def test_what_is_restored_has_the_same_keys_and_is_private(backed_up: tuple[Config, Path], tmp_path: Path) -> None:
    config, file = backed_up
    folder = tmp_path / "restored"
    folder.mkdir()
    restore(in_folder(folder), file, quiet)
    for name in ("signing.pem", "phone.key"):
        restored = folder / "keys" / name
        assert restored.read_bytes() == (config.server.data_dir / "keys" / name).read_bytes()
        assert restored.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["restored"]


def test_neither_overwrites_anything(backed_up: tuple[Config, Path], tmp_path: Path) -> None:
    config, file = backed_up
    with pytest.raises(BackupError, match="overwrites nothing"):
        backup(config, file, quiet)
    (tmp_path / "note").touch()
    with pytest.raises(BackupError, match="is not empty"):
        restore(in_folder(tmp_path), file, quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["note"]


def test_a_damaged_backup_leaves_no_data_folder(backed_up: tuple[Config, Path], tmp_path: Path) -> None:
    _, file = backed_up
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        dump = archive.getinfo("database.dump")
    for at in (dump.header_offset + dump.file_size // 2, len(data) - 10):
        damaged = tmp_path / "damaged"
        damaged.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises((BackupError, EmbeddedError)):
            restore(in_folder(tmp_path / "data"), damaged, quiet)
        assert [path.name for path in tmp_path.iterdir()] == ["damaged"]


def test_a_backup_of_a_newer_version_is_not_restored(backed_up: tuple[Config, Path], tmp_path: Path) -> None:
    config, file = backed_up
    newer = tmp_path / "newer"
    with zipfile.ZipFile(newer, "w") as archive:
        archive.writestr("manifest.json", msgspec.json.encode(Manifest(format=2, tchat="9", made_at="", keys=[])))
    with pytest.raises(BackupError, match="newer"):
        restore(in_folder(tmp_path / "data"), newer, quiet)

    async def migrate_further(url: str, statement: str) -> None:
        connection = await asyncpg.connect(url)
        await connection.execute(statement)
        await connection.close()

    newer.unlink()
    with EmbeddedPostgres(config.server.data_dir) as postgres:
        asyncio.run(migrate_further(postgres.url, "INSERT INTO migrations (number, name) VALUES (9999, 'later')"))
        backup(config, newer, quiet)
        asyncio.run(migrate_further(postgres.url, "DELETE FROM migrations WHERE number = 9999"))
    with pytest.raises(MigrationError, match="newer tchat"):
        restore(in_folder(tmp_path / "data"), newer, quiet)
    assert [path.name for path in tmp_path.iterdir()] == ["newer"]
    assert file.exists()


def test_it_says_what_is_not_in_it(backed_up: tuple[Config, Path], tmp_path: Path) -> None:
    config, _ = backed_up
    pem = (config.server.data_dir / "keys" / "signing.pem").read_text()
    more = {"identity": IdentitySettings(signing_key=Secret(pem)), "storage": StorageSettings(cql_hosts=("127.0.0.1",))}
    shown: list[str] = []
    backup(msgspec.structs.replace(config, **more), tmp_path / "backup", shown.append)
    assert any(line.startswith("Not in the backup: identity.signing_key") for line in shown)
    assert any(line.startswith("In the backup: identity.phone_key") for line in shown)
    assert any(line.startswith("Not in the backup: the archive") for line in shown)
    restore(in_folder(tmp_path / "restored"), tmp_path / "backup", shown.append)
    assert shown[-1].startswith("identity.signing_key was configured: configure the same one")


def test_a_folder_without_a_database_and_a_postgresql_of_yours_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="no database"):
        backup(in_folder(tmp_path / "none"), tmp_path / "backup", quiet)
    assert list(tmp_path.iterdir()) == []
    yours = Config(storage=StorageSettings(postgres_url="postgresql://u@127.0.0.1:1/x"))
    for command in (backup, restore):
        with pytest.raises(BackupError, match=r"storage\.postgres_url"):
            command(yours, tmp_path / "backup", quiet)


def test_the_books_are_backed_up_with_their_key_and_restored_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    with EmbeddedPostgres(tmp_path / "books") as postgres:
        asyncio.run(migrate(postgres.url, schema=MONEY_SCHEMA))
        asyncio.run(settle(postgres.url))
    key = load_digest_key(Config(commerce_service=CommerceServiceSettings(data_dir=tmp_path / "books")))
    monkeypatch.setenv("TCHAT__COMMERCE_SERVICE__DATA_DIR", str(tmp_path / "books"))
    assert main(["commerce", "backup", "night"]) == 0
    assert main(["restore", "night"]) == 2  # it is none of the chat
    monkeypatch.setenv("TCHAT__COMMERCE_SERVICE__DATA_DIR", str(tmp_path / "again"))
    assert main(["commerce", "restore", "night"]) == 0
    assert "In the backup: commerce_service.digest_key" in capsys.readouterr().out
    assert load_digest_key(Config(commerce_service=CommerceServiceSettings(data_dir=tmp_path / "again"))) == key
    assert main(["commerce", "reconcile"]) == 1
    assert "are read-only" in capsys.readouterr().out
    assert main(["commerce", "reconcile", "--accept", "--without-tenant", "2"]) == 1
    assert "not read back for tenant 1" in capsys.readouterr().out
    assert main(["commerce", "reconcile", "--accept", "--without-tenant", "1"]) == 0
    assert main(["commerce", "reconcile"]) == 0


async def settle(url: str) -> BooksState:
    """How the books stand."""
    books = await RestoredBooks.open(url, statement_timeout_s=30)
    try:
        return await books.settle(synchronous=False)
    finally:
        await books.aclose()
