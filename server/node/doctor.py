"""`tchat doctor`: what prevents or endangers a server here, and what to do about each.

It changes nothing: where there is no data folder yet it makes none, and where a server runs it asks that server's
PostgreSQL.
"""

import asyncio
import contextlib
import os
import resource
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import asyncpg

from server.config.load import ConfigError, load
from server.config.postgres_connections import count_connections
from server.config.settings import ClusterSettings, Config
from server.node.archive_start import configured_archive
from server.node.commerce_doctor import examine_commerce
from server.node.finding import Finding
from server.node.identity_parts import IdentitySecrets
from server.node.postgres_start import find_shared_account, visited_postgres
from server.startup_error import StartupError
from storage.bus import MESSAGE_BYTES_MAX
from storage.cql.driver import what_to_check
from storage.cql.migrate import REPLICAS_WANTED
from storage.cql.migrate import examine as examine_keyspace
from storage.embedded.data_folder import DataFolderError
from storage.embedded.install import EmbeddedError, Launcher, account_for
from storage.numbered_files import MigrationError
from storage.postgres.migrate import is_current
from storage.postgres.node_list import NodeState, list_nodes
from storage.postgres.oldest_writer import find_oldest_writer
from storage.redis import examine as redis_examine
from storage.redis.instance import RedisUrl
from storage.redis.resp import RespError
from storage.unavailable import StorageUnavailableError

CLOCK_DIFFERENCE_MAX_S = 1.0
OPEN_TRANSACTION_MAX_S = 10.0
ENDING_MAX_S = 30.0
DISK_FREE_BYTES_MIN = 1_000_000_000
OTHER_FILES = 200  # database connections, logs, listeners: what is open besides clients' connections
POSTGRES_VERSION_MIN = 18  # what the tests run on
REDIS_VERSION_MIN = (6, 2)  # so are these
CONNECT_TIMEOUT_S = 10.0


def examine(path: Path | None, environment: Mapping[str, str]) -> list[Finding]:
    """Look at everything; of an unusable configuration only what is wrong with it."""
    try:
        config = load(path, environment)
    except ConfigError as error:
        return [Finding("problem", "config", problem) for problem in error.problems]
    where = path or "config.toml, or the defaults"
    findings = [Finding("ok", "config", f"{where}; mode {config.server.mode}")]
    findings += [_data_folder(config.server.data_dir), _files(config), *_workers(config)]
    findings += [*_secrets(config), *_admin_port(config), *_account(config)]
    return findings + _engine(config) + _archive(config) + examine_redis(config.cluster) + examine_commerce(config)


def _data_folder(folder: Path) -> Finding:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding("problem", "data folder", f"{existing} cannot be written: give this user the right to.")
    if existing == folder and folder.stat().st_mode & 0o077:
        return Finding("problem", "data folder", f"{folder} is open to other users: chmod 700 {folder}")
    free = shutil.disk_usage(existing).free
    if free < DISK_FREE_BYTES_MIN:
        return Finding("problem", "data folder", f"{free // 1_000_000} MB are free at {existing}: make room.")
    made = "" if existing == folder else ", made by the first start"
    return Finding("ok", "data folder", f"{folder}{made}; {free // 1_000_000_000} GB free")


def _files(config: Config) -> Finding:
    """A server raises its soft limit itself, so the hard one counts."""
    wanted = config.gateway.connections_max + OTHER_FILES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        return Finding("ok", "open files", f"{wanted} may be needed and are allowed")
    return Finding(
        "note" if config.server.mode == "development" else "problem",
        "open files",
        f"gateway.connections_max needs {wanted} and {hard} are allowed: raise the limit (ulimit -Hn, LimitNOFILE= in "
        f"systemd), or set gateway.connections_max to {max(hard - OTHER_FILES, 1)}.",
    )


def _workers(config: Config) -> list[Finding]:
    """Whether each worker can have a core; a machine may show more than this process may use."""
    workers, cores = config.server.workers, os.cpu_count() or 1
    if workers == 1:
        return []
    if workers > cores:
        text = f"server.workers is {workers}, and this machine has {cores} cores: more workers than cores gain nothing."
        return [Finding("note", "workers", text)]
    return [Finding("ok", "workers", f"{workers}, on {cores} cores")]


def _secrets(config: Config) -> list[Finding]:
    """In development they are made by the first start."""
    if config.server.mode == "development":
        return []
    try:
        IdentitySecrets.load(config)
    except StartupError as error:
        return [Finding("problem", "secrets", str(error))]
    return [Finding("ok", "secrets", "the keys and the sender of codes can be used")]


def _admin_port(config: Config) -> list[Finding]:
    """Whether the private port depends on something outside: this cannot see whether it is there."""
    if not config.server.admin_is_guarded:
        return []
    text = f"server.admin_is_guarded says that strangers cannot reach {config.server.admin_host}: make sure of it."
    return [Finding("note", "admin port", text)]


def _account(config: Config) -> list[Finding]:
    """The user that the embedded PostgreSQL runs as."""
    shared = find_shared_account(config)
    if shared is None:
        return []
    level: Literal["note", "problem"] = "note" if config.server.mode == "development" else "problem"
    return [Finding(level, "account", shared)]


def _engine(config: Config) -> list[Finding]:
    try:
        with visited_postgres(config) as url:
            if url is None:
                _run_the_program(config)
                return [Finding("ok", "PostgreSQL", "embedded, runs here; the first start makes the database")]
            return asyncio.run(_database(url, config))
    except (DataFolderError, EmbeddedError) as error:
        return [Finding("problem", "PostgreSQL", str(error))]
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        return [
            Finding(
                "problem", "PostgreSQL", f"cannot be reached ({error}): check storage.postgres_url and its password."
            )
        ]


def _archive(config: Config) -> list[Finding]:
    """The CQL server, if one is configured."""
    server = configured_archive(config.storage)
    if server is None:
        return []
    try:
        state = examine_keyspace(server)
    except MigrationError as error:
        return [Finding("problem", "archive", str(error))]
    except StorageUnavailableError as error:
        return [Finding("problem", "archive", f"cannot be used ({error}): {what_to_check(error)}.")]
    if not state.is_current:
        return [Finding("problem", "archive", "its keyspace is not this version's: run `tchat migrate`.")]
    if config.server.mode == "production" and state.copies < REPLICAS_WANTED:
        text = (
            f"the keyspace {server.keyspace} keeps {state.copies} of {REPLICAS_WANTED} copies of each row here: change "
            "its replication (ALTER KEYSPACE), then repair it."
        )
        return [Finding("problem", "archive", text)]
    return [Finding("ok", "archive", f"reached; its keyspace is current, with {state.copies} copies of each row")]


def examine_redis(settings: ClusterSettings) -> list[Finding]:
    """The Redis instances, if some are configured."""
    password = settings.redis_password.reveal()
    return [asyncio.run(_examine_redis(RedisUrl(url, password))) for url in settings.redis_urls]


async def _examine_redis(url: RedisUrl) -> Finding:
    subject = f"Redis {url}"
    try:
        state = await redis_examine.examine(url)
    except redis_examine.PasswordError as error:
        return Finding("problem", subject, f"refuses the password ({error}): set cluster.redis_password to its own.")
    except (OSError, TimeoutError, RespError) as error:
        text = f"cannot be used ({str(error) or 'no answer'}): start it, or check cluster.redis_urls."
        return Finding("problem", subject, text)
    version = ".".join(map(str, state.version))
    if problem := _find_problem_of_redis(state, version):
        return Finding("problem", subject, problem)
    if state.replicas:
        text = f"has {state.replicas} replicas: let nobody promote one, for it lacks what came last."
        return Finding("note", subject, text)
    if state.policy is None or state.unread_bytes_max is None:
        text = "does not show its settings: make sure of maxmemory-policy noeviction."
        return Finding("note", subject, text)
    return Finding("ok", subject, f"reached, version {version}")


def _find_problem_of_redis(state: redis_examine.RedisState, version: str) -> str:
    if state.version < REDIS_VERSION_MIN:
        return f"is version {version}: upgrade it to {'.'.join(map(str, REDIS_VERSION_MIN))} or newer."
    if not state.is_primary:
        return "is a replica, which takes nothing: name the instance that it follows in cluster.redis_urls."
    if state.policy not in (None, "noeviction"):
        text = f"its maxmemory-policy is {state.policy}, so it forgets who is connected: CONFIG SET maxmemory-policy"
        return f"{text} noeviction, and the same in its configuration."
    if state.unread_bytes_max and state.unread_bytes_max < MESSAGE_BYTES_MAX:
        text = f"it drops a node for which {state.unread_bytes_max} bytes wait: set client-output-buffer-limit"
        return f'{text} to "pubsub 32mb 8mb 60" or more.'
    return ""


def _run_the_program(config: Config) -> None:
    """Raise EmbeddedError if PostgreSQL's program cannot be run here."""
    with contextlib.closing(Launcher(account_for(config.server.data_dir / "postgres"))) as launcher:
        launcher.run([launcher.program("postgres"), "--version"])


async def _database(url: str, config: Config) -> list[Finding]:
    embedded = not config.storage.postgres_url
    connection = await asyncpg.connect(url, timeout=CONNECT_TIMEOUT_S)
    try:
        return [
            await _version(connection, embedded=embedded),
            *([] if embedded else [await _connections(connection, count_connections(config))]),
            await _durability(connection, failover=config.storage.failover_is_synchronous),
            await _schema(connection, embedded=embedded),
            await _clock(connection),
            await _open_transactions(connection),
            *await _nodes(connection),
        ]
    finally:
        await connection.close()


async def _version(connection: "asyncpg.Connection[Any]", *, embedded: bool) -> Finding:
    version = connection.get_server_version()
    kind = "embedded" if embedded else "yours"
    if version.major < POSTGRES_VERSION_MIN:
        text = f"{kind} is version {version.major}: upgrade it to {POSTGRES_VERSION_MIN} or newer."
        return Finding("problem", "PostgreSQL", text)
    return Finding("ok", "PostgreSQL", f"{kind}, version {await connection.fetchval('SHOW server_version')}")


async def _connections(connection: "asyncpg.Connection[Any]", needed: int) -> Finding:
    """The embedded PostgreSQL is started with as many as its server needs."""
    allowed = int(await connection.fetchval("SHOW max_connections"))
    text = f"this server may need {needed} and PostgreSQL allows {allowed}, to all who use it together"
    if needed <= allowed:
        return Finding("ok", "connections", text)
    what = "raise max_connections, or set fewer server.workers or a smaller storage.connections_max."
    return Finding("problem", "connections", f"{text}: {what}")


async def _durability(connection: "asyncpg.Connection[Any]", *, failover: bool) -> Finding:
    """An ack promises that a message survives a crash; PostgreSQL can be configured not to keep such promises."""
    if failover and not await connection.fetchval("SHOW synchronous_standby_names"):
        text = (
            "storage.failover_is_synchronous is true, and no standby is synchronous: set synchronous_standby_names in "
            "PostgreSQL, or acked messages can be lost unnoticed."
        )
        return Finding("problem", "durability", text)
    for setting in ("fsync", "full_page_writes", "synchronous_commit"):
        if await connection.fetchval("SELECT current_setting($1)", setting) == "off":
            return Finding(
                "problem", "durability", f"PostgreSQL runs with {setting} = off: acked messages can be lost."
            )
    return Finding("ok", "durability", "what is committed is on disk")


async def _schema(connection: "asyncpg.Connection[Any]", *, embedded: bool) -> Finding:
    try:
        if await is_current(connection):
            return Finding("ok", "schema", "current")
    except MigrationError as error:
        return Finding("problem", "schema", str(error))
    if embedded:
        return Finding("note", "schema", "older than this version: the next start brings it up to date")
    return Finding("problem", "schema", "older than this version: run `tchat migrate`.")


async def _open_transactions(connection: "asyncpg.Connection[Any]") -> Finding:
    """An open writing transaction holds every client's position, wherever in the cluster it is."""
    oldest = await find_oldest_writer(connection)
    if oldest is None or oldest.open_s < OPEN_TRANSACTION_MAX_S:
        return Finding("ok", "transactions", "none that this role may see has been open for long")
    text = f"one has been open for {oldest.open_s:.0f} s ({oldest.what}) and holds every client's position: end it."
    return Finding("problem", "transactions", text)


async def _nodes(connection: "asyncpg.Connection[Any]") -> list[Finding]:
    try:
        lives = await list_nodes(connection)
    except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):  # an older schema, which is said already
        return []
    late_ms = (time.time() - ENDING_MAX_S) * 1000
    amiss = [
        life
        for life in lives
        if life.state is NodeState.STANDS_STILL
        or (life.state is NodeState.ENDING and (life.ended_at_ms or 0) < late_ms)
    ]
    if amiss:
        text = "; ".join(f"{life.node}, incarnation {life.incarnation}, {life.state.value}" for life in amiss)
        return [Finding("problem", "nodes", f"{text}.")]
    serving = [life for life in lives if life.state is NodeState.SERVES]
    versions = sorted({life.version for life in serving})
    if len(versions) > 1:
        text = f"they run different versions ({', '.join(versions)}): finish the roll-out."
        return [Finding("note", "nodes", text)]
    return [Finding("ok", "nodes", f"serving this database: {', '.join(life.node for life in serving) or 'none'}")]


async def _clock(connection: "asyncpg.Connection[Any]") -> Finding:
    asked = time.time()
    theirs = float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp())"))
    answered = time.time()
    difference = max(asked - theirs, theirs - answered, 0.0)
    if difference > CLOCK_DIFFERENCE_MAX_S:
        text = f"{difference:.1f} s apart from PostgreSQL's: keep both machines' time by NTP, or tokens fail."
        return Finding("problem", "clock", text)
    return Finding("ok", "clock", "agrees with PostgreSQL's")
