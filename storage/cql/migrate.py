"""Migrations of the keyspace: plain CQL files, applied in the order of their numbers.

Invariants: CQL has neither transactions nor a lock, so one process at a time migrates (`migrating_alone` of
PostgreSQL), every statement can be repeated, and a file is noted after its last statement: what was cut off begins
anew. There are no downgrades. Calls block: they belong into a thread.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cassandra.cluster import Session
from cassandra.metadata import NetworkTopologyStrategy

from storage.cql.driver import CqlServer, as_unavailable, connect
from storage.numbered_files import MigrationError, missing_names, number_of

FOLDER = Path(__file__).parent / "migrations"
REPLICAS_WANTED = 3
"""Copies of each row: of three, one may be lost while two answer."""

_OWN_TABLE = "CREATE TABLE IF NOT EXISTS migrations (number int PRIMARY KEY, name text)"


def migrate(server: CqlServer, progress: Callable[[str], None]) -> list[str]:
    """Bring the keyspace to this version; return the names of the steps taken, each shown by `progress`.

    A keyspace that is not there is made, with three copies of each row if the data centre has as many hosts.
    Raises StorageUnavailableError, and MigrationError if a newer version migrated it.
    """
    steps = []
    with _connected(server) as session:
        _make_keyspace(session, server.keyspace)
        session.set_keyspace(server.keyspace)
        if "migrations" not in session.cluster.metadata.keyspaces[server.keyspace].tables:
            session.execute(_OWN_TABLE)  # not each time: a node may have no right to make tables
        for name in missing_names(_read_numbers(session), FOLDER):
            for statement in _statements_of(FOLDER / f"{name}.cql"):
                session.execute(statement)
            session.execute("INSERT INTO migrations (number, name) VALUES (%s, %s)", (number_of(name), name[5:]))
            steps.append(name)
            progress(name)
    return steps


@dataclass(frozen=True)
class KeyspaceState:
    """Whether a keyspace is this version's, and how many copies of each row the data centre of this node keeps."""

    is_current: bool
    copies: int


def examine(server: CqlServer) -> KeyspaceState:
    """Look at a keyspace; one that is not there has no copies.

    Raises StorageUnavailableError, and MigrationError if a newer version migrated it.
    """
    with _connected(server) as session:
        keyspace = session.cluster.metadata.keyspaces.get(server.keyspace)
        if keyspace is None:
            return KeyspaceState(is_current=False, copies=0)
        session.set_keyspace(server.keyspace)
        is_current = "migrations" in keyspace.tables and not missing_names(_read_numbers(session), FOLDER)
        strategy = keyspace.replication_strategy
        if isinstance(strategy, NetworkTopologyStrategy):
            copies = strategy.dc_replication_factors.get(_find_data_centre(session), 0)
        else:
            copies = getattr(strategy, "replication_factor", 0)
        return KeyspaceState(is_current, copies)


@contextmanager
def _connected(server: CqlServer) -> Iterator[Session]:
    session = connect(server, None)
    try:
        yield session
    except MigrationError:
        raise
    except Exception as error:  # the driver raises errors of many families
        raise as_unavailable(error) from error
    finally:
        session.cluster.shutdown()


def _make_keyspace(session: Session, keyspace: str) -> None:
    metadata = session.cluster.metadata
    if keyspace in metadata.keyspaces:
        return
    here = _find_data_centre(session)
    hosts = sum(host.datacenter == here for host in metadata.all_hosts())
    copies = min(REPLICAS_WANTED, hosts)
    session.execute(
        f"CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = "
        f"{{'class': 'NetworkTopologyStrategy', '{here}': {copies}}}"
    )


def _find_data_centre(session: Session) -> str:
    name: str = session.cluster.get_control_connection_host().datacenter
    return name


def _read_numbers(session: Session) -> set[int]:
    """The numbers that were applied."""
    return {number for (number,) in session.execute("SELECT number FROM migrations")}


def _statements_of(path: Path) -> list[str]:
    text = re.sub(r"--.*", "", path.read_text(encoding="utf-8"))
    return [statement for statement in map(str.strip, text.split(";")) if statement]
