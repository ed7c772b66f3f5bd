"""One suite for both outboxes, and what only the one on disk promises."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tchat import store as client_store
from tchat.store import (
    MemoryOutbox,
    OutboxFullError,
    OutboxStore,
    SqliteOutbox,
    Stored,
    WrongDeviceError,
    first_number,
)

DEVICE = bytes([1]) * 16


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OutboxStore]:
    made: OutboxStore = (
        MemoryOutbox(first_n=1) if request.param == "memory" else SqliteOutbox(tmp_path / "outbox", first_n=1)
    )
    yield made
    made.close()


def put(store: OutboxStore, data: bytes) -> int:
    n = store.next_n()
    store.append(Stored(n, data))
    return n


def kept(store: OutboxStore) -> list[tuple[int, bytes]]:
    return [(entry.n, entry.data) for entry in store.pending()]


def test_numbers_grow_by_one(store: OutboxStore) -> None:
    assert [put(store, b"a"), put(store, b"b")] == [1, 2]
    assert store.next_n() == 3


def test_a_number_that_is_taken_is_nothing_elses(store: OutboxStore) -> None:
    assert [put(store, b"a"), store.take_n(), store.take_n(), put(store, b"b")] == [1, 2, 3, 4]
    assert kept(store) == [(1, b"a"), (4, b"b")]


def test_a_number_that_is_taken_is_not_given_again_after_a_restart(tmp_path: Path) -> None:
    first = SqliteOutbox(tmp_path / "outbox", first_n=1)
    assert first.take_n() == 1
    first.close()
    again = SqliteOutbox(tmp_path / "outbox")
    assert again.take_n() == 2
    again.close()


def test_pending_is_in_order_and_keeps_every_field(store: OutboxStore) -> None:
    put(store, b"a")
    put(store, b"b")
    assert store.pending() == [Stored(1, b"a"), Stored(2, b"b")]


@pytest.mark.parametrize("durable", [True, False])
def test_what_is_removed_is_not_pending_and_its_number_not_used_again(store: OutboxStore, durable: bool) -> None:
    put(store, b"a")
    store.remove(1, durable=durable)
    assert kept(store) == []
    assert put(store, b"b") == 2


def test_removing_what_is_not_there_is_nothing(store: OutboxStore) -> None:
    store.remove(99, durable=True)
    assert kept(store) == []


def test_many_removals(store: OutboxStore) -> None:
    for _ in range(200):
        put(store, b"x")
    for n in range(1, 200):
        store.remove(n, durable=False)
    assert kept(store) == [(200, b"x")]


def test_a_command_can_change_under_its_number(store: OutboxStore) -> None:
    put(store, b"a")
    store.replace(Stored(1, b"A"))
    store.replace(Stored(5, b"not there"))
    assert kept(store) == [(1, b"A")]


def test_a_command_can_move_to_a_new_number(store: OutboxStore) -> None:
    put(store, b"a")
    put(store, b"b")
    store.renumber(1, Stored(3, b"a"))
    assert kept(store) == [(2, b"b"), (3, b"a")]
    assert store.next_n() == 4


def test_a_store_belongs_to_one_device(store: OutboxStore) -> None:
    store.bind(DEVICE)
    store.bind(DEVICE)
    with pytest.raises(WrongDeviceError):
        store.bind(bytes(16))


def test_a_full_store_takes_nothing_and_has_room_again_after_a_removal(
    store: OutboxStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_store, "OUTBOX_COMMANDS_MAX", 2)
    put(store, b"a")
    put(store, b"b")
    with pytest.raises(OutboxFullError):
        put(store, b"c")
    assert store.next_n() == 3
    store.remove(1, durable=False)
    assert put(store, b"c") == 3


def test_a_new_store_starts_above_what_an_older_one_can_have_given_out() -> None:
    assert first_number() > 1_700_000_000_000_000
    assert MemoryOutbox().next_n() <= first_number() < 2**53


def test_a_file_keeps_everything_for_the_next_process(tmp_path: Path) -> None:
    first = SqliteOutbox(tmp_path / "outbox", first_n=1)
    first.bind(DEVICE)
    put(first, b"a")
    put(first, b"b")
    first.remove(2, durable=False)
    first.close()
    second = SqliteOutbox(tmp_path / "outbox")
    assert second.pending() == [Stored(1, b"a")]
    assert second.next_n() == 3
    with pytest.raises(WrongDeviceError):
        second.bind(bytes(16))
    second.close()


def test_a_file_of_the_first_version_goes_on(tmp_path: Path) -> None:
    """It has a column that nothing reads any more."""
    SqliteOutbox(tmp_path / "outbox", first_n=2).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "outbox")) as db, db:
        db.execute("ALTER TABLE pending ADD COLUMN since_seq INTEGER")
        db.execute("INSERT INTO pending VALUES (1, x'61', 7)")
    store = SqliteOutbox(tmp_path / "outbox")
    put(store, b"b")
    assert kept(store) == [(1, b"a"), (2, b"b")]
    store.close()


def test_what_append_returned_from_survives_sigkill(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from tchat.store import SqliteOutbox, Stored\n"
        "store = SqliteOutbox(sys.argv[1], first_n=1)\n"
        "while True:\n"
        "    n = store.next_n()\n"
        "    store.append(Stored(n, b'x'))\n"
        "    print(n, flush=True)\n"
    )
    path = tmp_path / "outbox"
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as said:
        for _ in range(20):
            promised = int(said.readline())
        os.kill(process.pid, signal.SIGKILL)
        promised = max([promised, *(int(line) for line in said if line.endswith("\n"))])
    process.wait()
    store = SqliteOutbox(path)
    numbers = [entry.n for entry in store.pending()]
    assert numbers[:promised] == list(range(1, promised + 1))
    assert store.next_n() == numbers[-1] + 1
    store.close()


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "outbox")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(sqlite3.DatabaseError, match="another version"):
        SqliteOutbox(tmp_path / "outbox")


@pytest.mark.parametrize("mode", [None, 0o644])
def test_only_its_owner_reads_an_outbox(tmp_path: Path, mode: int | None) -> None:
    path = tmp_path / "outbox"
    if mode is not None:  # of a version before
        path.touch()
        path.chmod(mode)
    store = SqliteOutbox(path)
    put(store, b"a")
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["outbox", "outbox-shm", "outbox-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    store.close()


def test_what_is_written_together_is_one_commit(tmp_path: Path) -> None:
    store = SqliteOutbox(tmp_path / "outbox", first_n=1)
    other = sqlite3.connect(tmp_path / "outbox")
    with store.together():
        put(store, b"a")
        put(store, b"b")
        assert other.execute("SELECT count(*) FROM pending").fetchone() == (0,)
    assert other.execute("SELECT count(*) FROM pending").fetchone() == (2,)
    with contextlib.suppress(ZeroDivisionError), store.together():
        put(store, b"c")
        raise ZeroDivisionError
    assert kept(store) == [(1, b"a"), (2, b"b")]
    other.close()
    store.close()


def test_what_fails_inside_of_a_commit_leaves_the_rest_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_store, "OUTBOX_COMMANDS_MAX", 1)
    store = SqliteOutbox(tmp_path / "outbox", first_n=1)
    with store.together():
        put(store, b"a")
        with pytest.raises(OutboxFullError):
            put(store, b"b")
    assert kept(store) == [(1, b"a")]
    store.close()
