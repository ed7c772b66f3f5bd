"""A key has one command, whatever became of it: in memory, in an outbox on disk, and in a sealed one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tchat.once import KEYS_KEPT, Made, event_key
from tchat.sealed_store import SealedStore
from tchat.store import MemoryOutbox, OutboxStore, SqliteOutbox, Stored
from tchat.store_key import FileKey

DIALOG, OTHER = bytes([1]) * 16, bytes([2]) * 16
KEY = event_key(DIALOG, 7, 0)
Reopen = Callable[[], OutboxStore]


@pytest.fixture(params=["sqlite", "sealed"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reopen]:
    """Opens the store of the test, first closing it if it is open."""
    opened: list[OutboxStore] = []

    def open_it() -> OutboxStore:
        for one in opened:
            one.close()
        path = tmp_path / "outbox"
        sealed = request.param == "sealed"
        opened[:] = [SealedStore(path, FileKey(tmp_path / "key"), 1) if sealed else SqliteOutbox(path, 1)]
        return opened[0]

    yield open_it
    opened[0].close()


@pytest.fixture(params=["memory", "sqlite", "sealed"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OutboxStore]:
    made: OutboxStore
    match request.param:
        case "memory":
            made = MemoryOutbox(first_n=1)
        case "sqlite":
            made = SqliteOutbox(tmp_path / "outbox", 1)
        case _:
            made = SealedStore(tmp_path / "outbox", FileKey(tmp_path / "key"), 1)
    yield made
    made.close()


def put(store: OutboxStore, key: bytes = b"") -> int:
    n = store.next_n()
    store.append(Stored(n, b"x"), key)
    return n


def test_a_key_finds_its_command_and_then_its_event(store: OutboxStore) -> None:
    assert store.find_made(KEY) is None
    n = put(store, KEY)
    assert store.find_made(KEY) == Made(n, 0)
    store.remove(n, durable=False, seq=12)
    assert store.find_made(KEY) == Made(n, 12)


def test_a_command_that_was_refused_has_no_key(store: OutboxStore) -> None:
    store.remove(put(store, KEY), durable=True)
    assert store.find_made(KEY) is None


def test_a_key_follows_its_command_to_another_number(store: OutboxStore) -> None:
    n = put(store, KEY)
    store.renumber(n, Stored(store.next_n(), b"x"))
    assert store.find_made(KEY) == Made(n + 1, 0)


def test_a_handled_event_takes_its_keys_along_and_no_others(store: OutboxStore) -> None:
    later, elsewhere, own = event_key(DIALOG, 8, 0), event_key(OTHER, 7, 0), b"own"
    for key in (KEY, event_key(DIALOG, 7, 1), later, elsewhere, own):
        put(store, key)
    store.mark_handled(DIALOG, 7, durable=True)
    assert store.handled() == {DIALOG: 7}
    assert [store.find_made(key) is not None for key in (KEY, event_key(DIALOG, 7, 1))] == [False, False]
    assert [store.find_made(key) is not None for key in (later, elsewhere, own)] == [True, True, True]


def test_keys_and_what_is_handled_outlive_the_process(reopen: Reopen) -> None:
    store = reopen()
    n = put(store, KEY)
    store.mark_handled(OTHER, 3, durable=False)
    store = reopen()
    assert store.find_made(KEY) == Made(n, 0)
    assert store.handled() == {OTHER: 3}
    store.remove(n, durable=False, seq=5)
    assert reopen().find_made(KEY) == Made(n, 5)


def test_an_outbox_of_before_gets_the_tables(reopen: Reopen) -> None:
    store = reopen()
    assert isinstance(store, SqliteOutbox)
    store._db.execute("DROP TABLE made")
    store._db.execute("DROP TABLE handled")
    assert put(reopen(), KEY) == 1


def test_a_store_that_is_behind_forgets_what_a_bot_has_handled(tmp_path: Path) -> None:
    store = SealedStore(tmp_path / "outbox", FileKey(tmp_path / "key"), 1)
    n = put(store, KEY)
    store.remove(n, durable=False, seq=5)
    store.mark_handled(OTHER, 3, durable=True)
    store.retire(100, 1)
    assert (store.find_made(KEY), store.handled()) == (None, {})
    store.close()


def test_of_keys_without_an_event_the_newest_are_kept(tmp_path: Path) -> None:
    store = SqliteOutbox(tmp_path / "outbox", 1)
    answered = [(b"%05d" % n, n, n) for n in range(1, KEYS_KEPT + 500)]
    store._db.executemany("INSERT INTO made VALUES (?, ?, ?)", answered)
    store._db.execute("UPDATE self SET next_n = 20000")
    put(store, b"newest")
    assert store.find_made(b"%05d" % 500) is not None
    assert store.find_made(b"%05d" % 499) is None
    assert store.find_made(b"newest") is not None
    store.close()
