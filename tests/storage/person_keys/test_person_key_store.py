"""Keys are in two folders before they are used, and nothing that was erased comes back with an older copy."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from protocol.ids import new_id
from storage.person_keys import erased_list, key_copy
from storage.person_keys.person_key_store import PersonKeysError, PersonKeyStore, PersonOfTenant
from storage.unavailable import StorageUnavailableError

MASTER = bytes(range(100, 132))
IDS_APPENDED = 300


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "one", tmp_path / "other"


def opened(folders: tuple[Path, Path], *, expected: bytes | None = None, master: bytes = MASTER) -> PersonKeyStore:
    return PersonKeyStore.open(folders, master, expected=expected)


def wrapped_in(folder: Path) -> dict[bytes, bytes]:
    """All keys of a copy, as they are stored."""
    with sqlite3.connect(folder / key_copy.FILE_NAME) as database:
        return dict(database.execute("SELECT key_id, wrapped FROM keys").fetchall())


def bytes_of(folder: Path) -> bytes:
    """All files of a folder."""
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_a_key_is_in_both_folders_before_it_is_used_and_in_neither_in_clear(folders: tuple[Path, Path]) -> None:
    store = opened(folders)
    name = new_id()
    key = store.create(name)
    assert wrapped_in(folders[0]) == wrapped_in(folders[1])
    assert store.read(name) == key
    assert not any(key in bytes_of(folder) for folder in folders)
    store.close()
    assert opened(folders, expected=store.store_id).read(name) == key


def test_an_erased_key_is_in_no_file_however_many_others_there_are(folders: tuple[Path, Path]) -> None:
    store = opened(folders)
    names = [new_id() for _ in range(300)]
    keys = {name: store.create(name) for name in names}
    before = wrapped_in(folders[0])
    assert store.erase(names[::3]) == 100
    assert store.erase(names[::3]) == 0
    for name in names[::3]:
        assert store.read(name) is None
    for folder in folders:
        content = bytes_of(folder)
        assert not any(before[name][:24] in content or before[name][24:] in content for name in names[::3])
    assert all(store.read(name) == keys[name] for name in names if name not in names[::3])


@pytest.mark.parametrize("lost", [0, 1])
def test_a_copy_that_is_lost_is_made_again_from_the_other(folders: tuple[Path, Path], lost: int) -> None:
    store = opened(folders)
    kept, gone = new_id(), new_id()
    key = store.create(kept)
    store.create(gone)
    store.erase([gone])
    store.close()
    shutil.rmtree(folders[lost])
    again = opened(folders, expected=store.store_id)
    assert again.rebuilt >= 1
    assert (again.read(kept), again.read(gone)) == (key, None)
    assert wrapped_in(folders[0]) == wrapped_in(folders[1])
    assert all(erased_list.ErasedList(folder).read() == {gone} for folder in folders)


@pytest.mark.parametrize("older", [(0,), (1,), (0, 1)])
def test_an_older_copy_brings_no_erased_key_back(
    folders: tuple[Path, Path], tmp_path: Path, older: tuple[int, ...]
) -> None:
    store = opened(folders)
    kept, gone = new_id(), new_id()
    key = store.create(kept)
    store.create(gone)
    for number in older:
        shutil.copy(folders[number] / key_copy.FILE_NAME, tmp_path / str(number))
    later, key_of_later = new_id(), store.create(new_id())
    del key_of_later
    store.create(later)
    store.erase([gone])
    store.close()
    for number in older:
        shutil.copy(tmp_path / str(number), folders[number] / key_copy.FILE_NAME)
    again = opened(folders, expected=store.store_id)
    assert (again.read(kept), again.read(gone)) == (key, None)
    assert (again.read(later) is None) == (len(older) == 2)


def test_an_older_folder_with_its_list_is_told_by_the_other(folders: tuple[Path, Path], tmp_path: Path) -> None:
    store = opened(folders)
    gone = new_id()
    store.create(gone)
    shutil.copytree(folders[0], tmp_path / "saved")
    store.erase([gone])
    store.close()
    shutil.rmtree(folders[0])
    shutil.copytree(tmp_path / "saved", folders[0])
    assert opened(folders, expected=store.store_id).read(gone) is None
    assert erased_list.ErasedList(folders[0]).read() == {gone}


def test_a_database_without_any_of_its_keys_is_refused(folders: tuple[Path, Path]) -> None:
    store = opened(folders)
    store.close()
    for folder in folders:
        shutil.rmtree(folder)
    with pytest.raises(PersonKeysError, match="restore one of the two folders"):
        opened(folders, expected=store.store_id)
    with pytest.raises(PersonKeysError, match="restore one of the two folders"):  # the refusal has made none
        opened(folders, expected=store.store_id)


def test_keys_of_another_deployment_or_another_master_are_refused(folders: tuple[Path, Path]) -> None:
    opened(folders).close()
    with pytest.raises(PersonKeysError, match="another database"):
        opened(folders, expected=new_id())
    with pytest.raises(PersonKeysError, match="personal_key does not open"):
        opened(folders, master=bytes(range(32)))


def test_a_damaged_copy_is_refused_with_what_to_do(folders: tuple[Path, Path]) -> None:
    store = opened(folders)
    store.create(new_id())
    store.close()
    (folders[1] / key_copy.FILE_NAME).write_bytes(b"not a database" * 1000)
    with pytest.raises(PersonKeysError, match="made again from the other"):
        opened(folders, expected=store.store_id)


def test_copies_that_differ_in_a_key_are_refused(folders: tuple[Path, Path]) -> None:
    store = opened(folders)
    store.create(new_id())
    store.close()
    with sqlite3.connect(folders[1] / key_copy.FILE_NAME) as database:
        database.execute("UPDATE keys SET wrapped = randomblob(72)")
    with pytest.raises(PersonKeysError, match="differ in 1 keys"):
        opened(folders, expected=store.store_id)


def test_a_line_that_a_crash_cut_off_is_left_out_and_written_over(tmp_path: Path) -> None:
    listed = erased_list.ErasedList(tmp_path)
    one, other = new_id(), new_id()
    listed.append([one])
    with (tmp_path / erased_list.FILE_NAME).open("ab") as file:
        file.write(other.hex().encode()[:20])
    assert listed.read() == {one}
    listed.append([other])
    assert listed.read() == {one, other}


def test_a_store_that_cannot_be_written_is_unavailable(folders: tuple[Path, Path]) -> None:
    store = opened(folders)
    store.close()
    with pytest.raises(StorageUnavailableError):
        store.create(new_id())


def append_many(folder: Path, seed: int, begin: Barrier) -> None:
    """Put IDS_APPENDED ids on the list of a folder, one by one."""
    begin.wait()
    listed = erased_list.ErasedList(folder)
    for number in range(IDS_APPENDED):
        listed.append([bytes([seed]) * 8 + number.to_bytes(8, "big")])


def test_two_processes_that_append_lose_nothing_of_each_other(tmp_path: Path) -> None:
    starting = multiprocessing.get_context("spawn")
    begin = starting.Barrier(2)
    processes = [starting.Process(target=append_many, args=(tmp_path, seed, begin)) for seed in (1, 2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(erased_list.ErasedList(tmp_path).read()) == 2 * IDS_APPENDED


def test_an_older_folder_is_told_who_was_erased(folders: tuple[Path, Path]) -> None:
    store = opened(folders)
    ann, bo = PersonOfTenant(1, new_id()), PersonOfTenant(2, new_id())
    store.erase([], [ann])
    store.close()
    older = folders[0].with_name("older")
    shutil.copytree(folders[0], older)
    store = opened(folders)
    store.erase([], [bo])
    store.erase([], [bo])
    store.close()
    store = opened((older, folders[1]))
    assert store.list_erased_people() == [ann, bo]
    assert not any(each.person.hex().encode() in bytes_of(folder) for each in (ann, bo) for folder in folders)
