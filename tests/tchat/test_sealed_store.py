"""The sealed store: what is in its file, who opens it, and that an older copy of it is noticed."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.ids import new_id
from tchat.crypto.state import OutboxRow, Table
from tchat.crypto.store_errors import (
    DamagedStoreError,
    NewerStoreError,
    NotSignedInError,
    StoreBehindError,
    StoreInUseError,
    WrongKeyError,
)
from tchat.sealed_store import SealedStore
from tchat.store import SqliteOutbox, Stored
from tchat.store_key import FileKey

MARK = b"what nobody else may read"
Open = Callable[..., SealedStore]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Opens a store in the test's folder."""

    def opens(name: str = "store", key: str = "key") -> SealedStore:
        return SealedStore(tmp_path / name, FileKey(tmp_path / key), first_n=1)

    return opens


def reopened(store: SealedStore, opens: Open) -> SealedStore:
    store.close()
    return opens()


def signed_in(store: SealedStore, n_max: int = 0, generation: int = 0) -> SealedStore:
    store.signed_in(n_max, generation)
    return store


def append(store: SealedStore, data: bytes = b"intent") -> int:
    n = store.next_n()
    store.append(Stored(n, data))
    return n


def on_disk(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.iterdir()) if file.name != "key")


def change(path: Path, statement: str, *values: object) -> None:
    """What somebody else does to the file."""
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute(statement, values)


def test_rows_and_commands_are_there_for_the_next_process(opened: Open) -> None:
    store = signed_in(opened())
    n = append(store)
    store.commit({(Table.OUTBOUND, b"dialog"): b"ratchet", (Table.HANDED, b"device"): b""}, [OutboxRow(n, b"sealed")])
    pickle_key = store.pickle_key
    store = reopened(store, opened)
    assert store.read(Table.OUTBOUND, b"dialog") == b"ratchet"
    assert store.read(Table.HANDED, b"device") == b""
    assert store.read(Table.OUTBOUND, b"other") is None
    assert store.pending() == [Stored(n, b"sealed")]
    assert store.pickle_key == pickle_key
    assert len(pickle_key) == 32
    store.close()


def test_a_row_can_change_and_go(opened: Open) -> None:
    store = opened()
    store.commit({(Table.ACKED, b"a"): b"1", (Table.ACKED, b"b"): b"2"}, [])
    store.commit({(Table.ACKED, b"a"): b"3", (Table.ACKED, b"b"): None, (Table.ACKED, b"c"): None}, [])
    assert store.read(Table.ACKED, b"a") == b"3"
    assert store.keys(Table.ACKED, b"") == [b"a"]
    store.close()


def test_keys_are_those_that_begin_so_in_order(opened: Open) -> None:
    store = opened()
    keys = [b"a", b"a\x00", b"a\xff", b"a\xff\xff", b"b", b"\xff", b"\xff\xff1"]
    store.commit({(Table.INBOUND, key): b"" for key in reversed(keys)} | {(Table.FRANKED, b"a1"): b""}, [])
    for prefix in (b"", b"a", b"a\xff", b"\xff", b"\xff\xff", b"c"):
        assert store.keys(Table.INBOUND, prefix) == [key for key in keys if key.startswith(prefix)]
    store.close()


def test_a_commit_is_whole_or_nothing(opened: Open) -> None:
    store = signed_in(opened())
    n = append(store)
    with pytest.raises(LookupError):
        store.commit({(Table.OUTBOUND, b"dialog"): b"ratchet"}, [OutboxRow(n, b"sealed"), OutboxRow(n + 1, b"sealed")])
    assert store.read(Table.OUTBOUND, b"dialog") is None
    assert store.pending() == [Stored(n, b"intent")]
    store.close()


def test_nothing_of_a_value_or_a_command_is_readable_in_the_files(opened: Open, tmp_path: Path) -> None:
    store = signed_in(opened())
    n = append(store, MARK)
    assert on_disk(tmp_path).find(MARK) == -1
    store.commit({(Table.IDENTITY, b""): MARK}, [OutboxRow(n, MARK + MARK)])
    store.replace(Stored(n, MARK))
    store.renumber(n, Stored(n + 1, MARK))
    secret = store.pickle_key
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    for _ in range(2):
        files = on_disk(tmp_path)
        assert files.find(MARK) == files.find(secret) == files.find((tmp_path / "key").read_bytes()) == -1
        store.close()
        store = opened()
    assert store.pending() == [Stored(n + 1, MARK)]
    store.close()


def test_an_outbox_without_encryption_is_sealed_and_goes_on(opened: Open, tmp_path: Path) -> None:
    device = new_id()
    outbox = SqliteOutbox(tmp_path / "store", first_n=5)
    outbox._db.execute("PRAGMA secure_delete = OFF")  # some builds of SQLite have it on
    outbox.bind(device)
    for number in range(40):
        outbox.append(Stored(outbox.next_n(), MARK + bytes(2000) + bytes([number])))
    for n in range(5, 40):
        outbox.remove(n, durable=n == 39)
    outbox.close()
    assert MARK in on_disk(tmp_path)
    store = opened()
    assert MARK not in on_disk(tmp_path)
    store.bind(device)
    assert store.pending() == [Stored(n, MARK + bytes(2000) + bytes([n - 5])) for n in range(40, 45)]
    assert store.next_n() == 45
    store.close()
    with pytest.raises(sqlite3.DatabaseError, match="another version"):
        SqliteOutbox(tmp_path / "store")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE state SET value = (SELECT value FROM state WHERE key = x'62') WHERE key = x'61'",
        "UPDATE state SET name = 'franked'",
        "UPDATE state SET value = x'00' WHERE key = x'61'",
        "UPDATE state SET value = 'text' WHERE key = x'61'",
        "UPDATE state SET value = CAST(value || x'00' AS BLOB)",
    ],
)
def test_a_value_that_was_changed_or_moved_is_refused(opened: Open, tmp_path: Path, statement: str) -> None:
    store = opened()
    store.commit({(Table.ACKED, b"a"): b"1", (Table.ACKED, b"b"): b"2"}, [])
    store.close()
    change(tmp_path / "store", statement)
    store = opened()
    with pytest.raises(DamagedStoreError):
        store.read(Table.FRANKED if "franked" in statement else Table.ACKED, b"a")
    store.close()


def test_a_command_under_another_number_is_refused(opened: Open, tmp_path: Path) -> None:
    store = opened()
    n = append(store)
    store.close()
    change(tmp_path / "store", "UPDATE pending SET n = ?", n + 1)
    store = opened()
    with pytest.raises(DamagedStoreError):
        store.pending()
    store.close()


def test_a_value_of_another_store_is_refused_under_the_same_key(opened: Open, tmp_path: Path) -> None:
    for name in ("one", "other"):
        store = opened(name)
        store.commit({(Table.ACKED, b"a"): name.encode()}, [])
        store.close()
    with contextlib.closing(sqlite3.connect(tmp_path / "other")) as db:
        (value,) = db.execute("SELECT value FROM state").fetchone()
    change(tmp_path / "one", "UPDATE state SET value = ?", value)
    store = opened("one")
    with pytest.raises(DamagedStoreError):
        store.read(Table.ACKED, b"a")
    store.close()


def test_another_key_opens_nothing_and_harms_nothing(opened: Open, tmp_path: Path) -> None:
    store = opened()
    store.commit({(Table.ACKED, b"a"): b"1"}, [])
    store.close()
    (tmp_path / "wrong").write_bytes(bytes(32))
    (tmp_path / "wrong").chmod(0o600)
    with pytest.raises(WrongKeyError):
        opened(key="wrong")
    store = opened()
    assert store.read(Table.ACKED, b"a") == b"1"
    store.close()


def test_a_file_of_a_newer_version_is_refused_and_stays_as_it_is(opened: Open, tmp_path: Path) -> None:
    opened().close()
    change(tmp_path / "store", "PRAGMA user_version = 99")
    with pytest.raises(NewerStoreError):
        opened()
    change(tmp_path / "store", "PRAGMA user_version = 3")
    opened().close()


@pytest.mark.parametrize("damage", ["not sqlite", "DROP TABLE store", "DELETE FROM store", "UPDATE store SET note = 7"])
def test_what_is_no_store_is_refused(opened: Open, tmp_path: Path, damage: str) -> None:
    opened().close()
    if damage == "not sqlite":
        (tmp_path / "store").write_bytes(b"not a database at all" * 100)
    else:
        change(tmp_path / "store", damage)
    with pytest.raises(DamagedStoreError):
        opened()


def test_one_store_is_open_once_also_under_another_name(opened: Open, tmp_path: Path) -> None:
    store = opened()
    (tmp_path / "link").symlink_to(tmp_path / "store")
    for name in ("store", "link"):
        with pytest.raises(StoreInUseError):
            opened(name)
    append(store)  # what was refused has not harmed the first
    reopened(store, opened).close()


def test_another_process_is_refused_until_the_first_is_killed(opened: Open, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from tchat.sealed_store import SealedStore\n"
        "from tchat.store_key import FileKey\n"
        "store = SealedStore(sys.argv[1], FileKey(Path(sys.argv[2])))\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "store"), str(tmp_path / "key")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        with pytest.raises(StoreInUseError):
            opened()
        process.send_signal(signal.SIGKILL)
    opened().close()


def test_a_store_that_the_server_does_not_outrun_goes_on(opened: Open) -> None:
    store = opened()
    assert store.signed_in(0, 0) == 1
    n = append(store)
    store = reopened(store, opened)
    assert store.signed_in(n, 1) == store.generation == 1
    assert store.signed_in(n, 0) == 1, "the server has not been told of these keys yet"
    store.close()


def test_a_new_store_of_a_device_with_keys_begins_a_generation(opened: Open) -> None:
    store = opened()
    assert store.signed_in(0, 4) == 5
    store.close()


@pytest.mark.parametrize(("n_max", "generation"), [(2, 1), (3, 1), (0, 2)])
def test_a_store_that_is_behind_steps_no_ratchet(opened: Open, n_max: int, generation: int) -> None:
    store = signed_in(opened())
    n = append(store)
    assert store.next_n() == 2
    with pytest.raises(StoreBehindError):
        store.signed_in(n_max, generation)
    for table in (Table.ACCOUNT, Table.CHANNELS, Table.OUTBOUND, Table.HANDED, Table.SLICES):
        with pytest.raises(StoreBehindError):
            store.commit({(table, b""): b"step"}, [])
    with pytest.raises(StoreBehindError):
        store.commit({}, [OutboxRow(n, b"sealed")])
    store.commit({(Table.PINS, b"person"): b"what is believed"}, [])
    store.close()


def test_no_ratchet_steps_before_the_server_was_asked(opened: Open) -> None:
    store = reopened(signed_in(opened()), opened)
    with pytest.raises(NotSignedInError):
        store.commit({(Table.OUTBOUND, b"dialog"): b"step"}, [])
    store.commit({(Table.PINS, b"person"): b"what is believed"}, [])
    store.close()


def test_a_store_is_retired_for_good_and_gives_up_what_may_have_been_sent(opened: Open) -> None:
    store = signed_in(opened())
    n = append(store, b"perhaps sent")
    store.commit({(Table.INBOUND, b"session"): b"keys"}, [])
    with pytest.raises(StoreBehindError):
        store.signed_in(2**50 + 7, 3)
    assert store.retire(2**50 + 7, 3) == [Stored(n, b"perhaps sent")]
    store.commit({(Table.OUTBOUND, b"dialog"): b"step"}, [])
    store = reopened(store, opened)
    assert store.signed_in(2**50 + 7, 3) == 4
    assert store.pending() == []
    assert store.next_n() > 2**50 + 7
    assert store.read(Table.INBOUND, b"session") == b"keys"
    store.close()


def test_a_store_whose_keys_nobody_believes_begins_new_ones_and_keeps_its_commands(opened: Open) -> None:
    store = signed_in(opened())
    n = append(store, b"not sent yet")
    before = store.generation
    assert store.renew() == before + 1
    store = reopened(store, opened)
    with pytest.raises(NotSignedInError):
        store.renew()
    assert (store.generation, store.pending()) == (before + 1, [Stored(n, b"not sent yet")])
    store.close()


def test_a_retired_store_uses_no_number_that_a_newer_copy_can_have_used(opened: Open) -> None:
    store = signed_in(opened())
    store.retire(1, 1)
    assert store.next_n() > 1_700_000_000_000_000
    store.close()
