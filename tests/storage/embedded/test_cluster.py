"""The embedded PostgreSQL: durable, private, one per folder, and at ease with whatever a killed server left."""

import asyncio
import contextlib
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from storage.embedded.cluster import EmbeddedPostgres, kill_cluster
from storage.embedded.data_folder import DataFolderError, DataFolderInUseError
from storage.embedded.install import EmbeddedError

OWNER = """
import sys
from pathlib import Path
from storage.embedded.cluster import EmbeddedPostgres
postgres = EmbeddedPostgres(Path(sys.argv[1]))
postgres.start()
print(postgres.pid, flush=True)
sys.stdin.read()
"""


def query(postgres: EmbeddedPostgres, *statements: str) -> object:
    """Run each statement in autocommit; the value of the last."""

    async def run() -> object:
        connection = await asyncpg.connect(postgres.url)
        try:
            return [await connection.fetchval(statement) for statement in statements][-1]
        finally:
            await connection.close()

    return asyncio.run(run())


def is_alive(pid: int) -> bool:
    """Whether a process runs; an ended one that nobody has asked about yet does not."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@contextlib.contextmanager
def owner_to_kill(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Another process that runs the PostgreSQL of a folder, and that PostgreSQL's process id."""
    command = [sys.executable, "-c", OWNER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        try:
            yield owner, int(owner.stdout.readline())
        finally:
            owner.kill()


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedPostgres:
    """A stopped cluster with one row in it; a test leaves it stopped and adds to it at most."""
    postgres = EmbeddedPostgres(tmp_path_factory.mktemp("used"))
    with postgres:
        query(postgres, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (1)")
    return postgres


def test_it_is_durable_and_speaks_utf8_in_byte_order(used: EmbeddedPostgres) -> None:
    expected = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "lc_collate": "C",
        "TimeZone": "UTC",
    }
    with used:
        found = {name: query(used, f"SELECT current_setting('{name}', true)") for name in expected}
        found["lc_collate"] = query(used, "SELECT datcollate FROM pg_database WHERE datname = 'tchat'")
    assert found == expected


def test_it_listens_on_a_socket_in_a_private_folder_alone(used: EmbeddedPostgres) -> None:
    with used:
        family = [psutil.Process(used.pid), *psutil.Process(used.pid).children()]
        assert [connection for process in family for connection in process.net_connections("inet")] == []
        folders = query(used, "SELECT current_setting('listen_addresses')")
        assert folders == ""
        run = used.data_dir / "run"
        assert stat.S_IMODE(run.stat().st_mode) == 0o700
        assert stat.S_IMODE((used.data_dir / "postgres").stat().st_mode) == 0o700


def test_nobody_is_let_in_by_trust(used: EmbeddedPostgres) -> None:
    rules = (used.data_dir / "postgres" / "pg_hba.conf").read_text().split()
    assert "trust" not in rules
    assert "peer" in rules


def test_what_was_committed_is_there_after_a_stop(used: EmbeddedPostgres) -> None:
    with used:
        assert query(used, "SELECT min(n) FROM kept") == 1


def test_a_second_owner_is_refused_with_the_first_ones_process_id(used: EmbeddedPostgres) -> None:
    with used, pytest.raises(DataFolderInUseError, match=f"process id {os.getpid()}") as caught:
        EmbeddedPostgres(used.data_dir).start()
    assert caught.value.pid == os.getpid()


def test_the_orphan_of_a_killed_owner_is_replaced_and_nothing_committed_is_lost(used: EmbeddedPostgres) -> None:
    with owner_to_kill(used.data_dir) as (owner, orphan):
        query(used, "INSERT INTO kept VALUES (2)")
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert is_alive(orphan)
        with used:
            assert used.pid != orphan
            assert not is_alive(orphan)
            assert query(used, "SELECT count(*) FROM kept WHERE n = 2") == 1


def test_an_owner_killed_together_with_its_postgresql_leaves_what_was_committed(used: EmbeddedPostgres) -> None:
    with owner_to_kill(used.data_dir) as (owner, _):
        query(used, "INSERT INTO kept VALUES (3)")
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        kill_cluster(used.data_dir)
    with used:
        assert query(used, "SELECT count(*) FROM kept WHERE n = 3") == 1


def test_backends_that_outlive_their_killed_postmaster_do_not_prevent_a_start(used: EmbeddedPostgres) -> None:
    used.start()
    os.kill(used.pid, signal.SIGKILL)
    used.stop()
    with used:
        assert query(used, "SELECT 1") == 1


def test_a_note_that_names_an_unrelated_process_does_not_prevent_a_start(used: EmbeddedPostgres) -> None:
    used.start()
    note = used.data_dir / "postgres" / "postmaster.pid"
    text = note.read_text()
    used.kill()
    parent = os.getppid()  # alive, and no PostgreSQL
    note.write_text(text.replace(text.split("\n", maxsplit=1)[0], str(parent), 1))
    with used:
        assert query(used, "SELECT 1") == 1
    assert psutil.pid_exists(parent)


def test_a_cluster_of_another_version_is_refused_by_name(used: EmbeddedPostgres) -> None:
    version = used.data_dir / "postgres" / "PG_VERSION"
    ours = version.read_text()
    version.write_text("16\n")
    try:
        with pytest.raises(EmbeddedError, match="made by PostgreSQL 16"):
            used.start()
    finally:
        version.write_text(ours)
    with used:  # and the folder was let go
        assert query(used, "SELECT 1") == 1


def test_a_wrong_setting_is_said_with_the_log_that_explains_it(used: EmbeddedPostgres) -> None:
    with pytest.raises(EmbeddedError, match="invalid value for parameter"):
        EmbeddedPostgres(used.data_dir, {"shared_buffers": "many"}).start()


def test_a_cluster_whose_making_was_cut_short_is_made_again(tmp_path: Path) -> None:
    half = tmp_path / "postgres.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(tmp_path) as postgres:
        assert query(postgres, "SELECT 1") == 1
    assert not half.exists()


def test_a_path_too_long_for_a_socket_is_no_obstacle(tmp_path: Path) -> None:
    with EmbeddedPostgres(tmp_path / ("long" * 25)) as postgres:
        assert query(postgres, "SELECT 1") == 1
        assert not (postgres.data_dir / "run").exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataFolderError, match="cannot be written"):
        EmbeddedPostgres(tmp_path / "file" / "data").start()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataFolderError, match="cannot be written"):
        EmbeddedPostgres(tmp_path / "data").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_as_root_it_runs_as_another_user_and_no_parent_folder_is_opened(used: EmbeddedPostgres) -> None:
    used.data_dir.chmod(0o700)
    used.data_dir.parent.chmod(0o700)
    with used:
        assert psutil.Process(used.pid).uids().effective != 0
        assert query(used, "SELECT 1") == 1
    assert stat.S_IMODE(used.data_dir.stat().st_mode) == 0o700
    assert stat.S_IMODE(used.data_dir.parent.stat().st_mode) == 0o700


def test_a_postgres_that_ended_unasked_is_started_again(used: EmbeddedPostgres) -> None:
    assert not used.revive()
    with used:
        assert not used.revive()
        kill_cluster(used.data_dir)
        assert used.revive()
        assert query(used, "SELECT 1") == 1
        assert not used.revive()
    assert not used.revive()
