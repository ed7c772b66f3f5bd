"""The Cassandra of the tests: real rows that survive a crash, and a way to say that it is not to be had."""

from pathlib import Path

import pytest
from cassandra import OperationTimedOut
from cassandra.cluster import NoHostAvailable, Session

from tests.engines.cassandra_jars import VERSION, fetch_jars, find_java
from tests.engines.cassandra_server import CassandraServer
from tests.engines.fixtures import await_answers
from tests.engines.server_process import EngineMissingError


def test_a_keyspace_of_a_test_is_empty_and_takes_rows(cql_session: Session, cql_keyspace: str) -> None:
    cql_session.execute(f"CREATE TABLE {cql_keyspace}.kept (key int PRIMARY KEY, value text)")
    cql_session.execute(f"INSERT INTO {cql_keyspace}.kept (key, value) VALUES (1, 'one')")
    (row,) = cql_session.execute(f"SELECT * FROM {cql_keyspace}.kept")
    assert (row.key, row.value) == (1, "one")


def test_a_batch_of_the_largest_size_is_taken(cql_session: Session, cql_keyspace: str) -> None:
    cql_session.execute(f"CREATE TABLE {cql_keyspace}.kept (part int, key int, value blob, PRIMARY KEY (part, key))")
    insert = f"INSERT INTO {cql_keyspace}.kept (part, key, value) VALUES (1, %d, 0x{'00' * 2**15});"
    cql_session.execute("BEGIN UNLOGGED BATCH " + insert % 1 + insert % 2 + " APPLY BATCH")
    assert len(list(cql_session.execute(f"SELECT key FROM {cql_keyspace}.kept"))) == 2


def test_what_was_acknowledged_survives_a_kill(
    breakable_cassandra: CassandraServer, cql_session: Session, cql_keyspace: str
) -> None:
    cql_session.execute(f"CREATE TABLE {cql_keyspace}.kept (key int PRIMARY KEY)")
    cql_session.execute(f"INSERT INTO {cql_keyspace}.kept (key) VALUES (1)")
    breakable_cassandra.kill()
    with pytest.raises(NoHostAvailable):
        cql_session.execute(f"SELECT key FROM {cql_keyspace}.kept")
    breakable_cassandra.start()
    await_answers(cql_session)
    assert [row.key for row in cql_session.execute(f"SELECT key FROM {cql_keyspace}.kept")] == [1]


def test_a_cassandra_that_is_paused_answers_when_it_goes_on(
    breakable_cassandra: CassandraServer, cql_session: Session
) -> None:
    breakable_cassandra.pause()
    answer = cql_session.execute_async("SELECT key FROM system.local")
    with pytest.raises(OperationTimedOut):
        cql_session.execute("SELECT key FROM system.local", timeout=0.05)
    breakable_cassandra.resume()
    assert answer.result()


def test_without_java_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda _program: None)
    monkeypatch.setattr(Path, "glob", lambda _path, _pattern: [])
    with pytest.raises(EngineMissingError, match="install a JDK 17 and Maven"):
        find_java()


def test_without_maven_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda _program: None)
    with pytest.raises(EngineMissingError, match="no Maven to fetch"):
        fetch_jars()


def test_what_is_in_the_cache_is_not_fetched_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "tchat" / f"cassandra-{VERSION}").mkdir(parents=True)
    monkeypatch.setattr("shutil.which", lambda _program: None)
    assert fetch_jars().is_relative_to(tmp_path)


def test_a_fetch_that_fails_says_so_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda _program: "/bin/false")
    with pytest.raises(EngineMissingError, match="Maven could not fetch"):
        fetch_jars()
    assert list((tmp_path / "tchat").iterdir()) == []
