"""One way to the CQL server: how the driver is set up, and what its failures mean.

Every statement is idempotent, at LOCAL_QUORUM, sent to a replica, with a time-out of its own, and tried on one further
host. Calls of this module block: they belong into a thread.
"""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from concurrent.futures import Future, InvalidStateError, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cassandra import (
    AuthenticationFailed,
    ConsistencyLevel,
    InvalidRequest,
    OperationTimedOut,
    ReadTimeout,
    WriteTimeout,
)
from cassandra.auth import PlainTextAuthProvider
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile, NoHostAvailable, Session
from cassandra.policies import (
    DCAwareRoundRobinPolicy,
    ExponentialReconnectionPolicy,
    RetryPolicy,
    TokenAwarePolicy,
)
from cassandra.query import tuple_factory

from storage.unavailable import StorageTimeoutError, StorageUnavailableError

logging.getLogger("cassandra").setLevel(logging.WARNING)  # below that it logs statements, with their values
# Apache Cassandra warns in each reply to a batch of several partitions, and the driver logs each warning: ours go to
# replicas that have all of them.
logging.getLogger("cassandra.protocol").setLevel(logging.ERROR)

CONNECT_TIMEOUT_S = 5.0
"""For one host."""
ANSWER_TIMEOUT_S = 10.0
"""For all hosts together, which are tried one after the other."""
_SCHEMA_TIMEOUT_S = 30.0
"""For statements of the schema; each other one brings its own time-out."""
_HEARTBEAT_S = 5.0
"""A connection is asked this often whether it lives, and answers within as long, or it is closed."""
_RECONNECT_S = (0.5, 10.0)
"""First and longest pause before a host that was lost is tried again."""


@dataclass(frozen=True)
class CqlServer:
    """Where timelines are archived. `hosts` are of the data centre of this node, `local_dc` if it has a value.

    With `tls_ca`, a file of certificates of authorities, connections are TLS.
    """

    hosts: tuple[str, ...]
    port: int
    keyspace: str
    user: str = ""
    password: str = field(default="", repr=False)
    local_dc: str = ""
    tls_ca: Path | None = None


class OneFurtherHost(RetryPolicy):  # type: ignore[misc]
    """A statement that fails is tried on one further host: all of ours can be repeated."""

    def _decide(self, *_statement: object, retry_num: int, **_failure: object) -> tuple[int, None]:
        return (self.RETRY_NEXT_HOST if retry_num == 0 else self.RETHROW), None

    on_read_timeout = on_write_timeout = on_unavailable = on_request_error = _decide


def make_cluster(server: CqlServer) -> Cluster:
    """The driver, not connected yet. Raises StorageUnavailableError when `tls_ca` cannot be read."""
    profile = ExecutionProfile(
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy(server.local_dc)),
        retry_policy=OneFurtherHost(),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        request_timeout=_SCHEMA_TIMEOUT_S,
        row_factory=tuple_factory,
    )
    return Cluster(
        server.hosts,
        server.port,
        auth_provider=PlainTextAuthProvider(server.user, server.password) if server.user else None,
        ssl_context=None if server.tls_ca is None else _make_context(server.tls_ca),
        # A request above 4 KB leaves in several writes, each of which would wait 40 ms for an ack of TCP.
        sockopts=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
        compression=False,  # ciphertext does not get smaller
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        reconnection_policy=ExponentialReconnectionPolicy(*_RECONNECT_S, max_attempts=None),
        connect_timeout=CONNECT_TIMEOUT_S,
        control_connection_timeout=CONNECT_TIMEOUT_S,
        idle_heartbeat_interval=_HEARTBEAT_S,
        idle_heartbeat_timeout=_HEARTBEAT_S,
        driver_config_reporting_enabled=False,
    )


def _make_context(tls_ca: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=tls_ca)
    except OSError as error:  # ssl.SSLError is one
        raise StorageUnavailableError(f"{tls_ca} has no certificates that can be read ({error})") from error


def connect(server: CqlServer, keyspace: str | None) -> Session:
    """A session of the driver, whose `cluster` is to be shut down.

    Raises StorageUnavailableError when nothing answers or there is no such keyspace.
    """
    attempt: Future[Session] = Future()
    # In a thread that nobody waits for: the driver tries the hosts one after the other, and nothing stops it.
    asked = (make_cluster(server), keyspace, server.local_dc, attempt)
    threading.Thread(target=_attempt, args=asked, name="cql", daemon=True).start()
    wait([attempt], ANSWER_TIMEOUT_S)
    if attempt.cancel():
        raise StorageTimeoutError(f"no host answered within {ANSWER_TIMEOUT_S:g} s")
    try:
        session = attempt.result()
    except Exception as error:  # the driver raises errors of many families
        raise as_unavailable(error) from error
    session.use_client_timestamp = False  # timestamps are stages
    return session


def _attempt(cluster: Cluster, keyspace: str | None, local_dc: str, attempt: Future[Session]) -> None:
    try:
        session = cluster.connect(keyspace)
    except Exception as error:  # noqa: BLE001 - it is raised where the session is awaited
        cluster.shutdown()
        centres = {host.datacenter for host in cluster.metadata.all_hosts() if host.datacenter}
        is_elsewhere = local_dc and centres and local_dc not in centres
        text = f"no host is in the data centre {local_dc!r}, but in {', '.join(sorted(centres))}"
        with suppress(InvalidStateError):  # given up
            attempt.set_exception(NoHostAvailable(text, {}) if is_elsewhere else error)
        return
    try:
        attempt.set_result(session)
    except InvalidStateError:
        cluster.shutdown()


def as_unavailable(error: Any) -> StorageUnavailableError:
    """What a failure of the driver means to who asked."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, (OperationTimedOut, ReadTimeout, WriteTimeout)):
        return StorageTimeoutError(text)
    if isinstance(error, InvalidRequest):  # our statements are right where the keyspace is
        return StorageUnavailableError(f"{text}: run `tchat migrate`")
    return StorageUnavailableError(text)


def what_to_check(error: StorageUnavailableError) -> str:
    """Which settings are wrong, as far as a failure to connect says."""
    failures = getattr(error.__cause__, "errors", {})
    causes = list(failures.values()) if isinstance(failures, dict) else []
    if any(isinstance(cause, AuthenticationFailed) for cause in causes):
        return "the server refuses storage.cql_user or its password"
    if any("[SSL" in str(cause) for cause in causes):
        return "check storage.cql_tls_ca, and that the certificate of each host names its address"
    return "check storage.cql_hosts, cql_port, cql_local_dc, and cql_tls_ca if the server speaks TLS only"
