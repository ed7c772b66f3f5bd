"""Which PostgreSQL this node uses, running while it is needed: the embedded one, or the one that is configured."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from server.config.postgres_connections import EMBEDDED_MIN, count_connections
from server.config.setting_types import Secret
from server.config.settings import Config, StorageSettings
from server.startup_error import StartupError
from storage.embedded.cluster import EmbeddedError, EmbeddedPostgres
from storage.embedded.data_folder import DataFolderInUseError
from storage.embedded.install import account_for

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class Postgres:
    """The database at `url`; `embedded` is ours to keep running."""

    url: str
    embedded: EmbeddedPostgres | None = None

    async def keep_running(self) -> None:
        """Start the embedded PostgreSQL again when it has ended, until cancelled: nothing else restarts it."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if self.embedded is None:
                continue
            try:
                if await asyncio.to_thread(self.embedded.revive):
                    _log.error("PostgreSQL had ended and was started again")
            except EmbeddedError as error:
                _log.error("PostgreSQL has ended and cannot be started now: %s", error)


@contextlib.contextmanager
def running_postgres(config: Config) -> Iterator[Postgres]:
    """Give the database; the embedded PostgreSQL is started before and stopped after.

    Blocks for the start (milliseconds; most of a second the first time). Raises DataFolderError (DataFolderInUseError
    if another server has it), EmbeddedError, and StartupError as root in production; a configured one is not contacted.
    """
    shared = find_shared_account(config)
    if shared is not None and config.server.mode == "production":
        raise StartupError(shared)
    if config.storage.postgres_url:
        yield Postgres(configured_url(config.storage))
    else:
        if shared is not None:
            _log.warning(shared)
        connections = max(EMBEDDED_MIN, count_connections(config))
        with EmbeddedPostgres(config.server.data_dir, {"max_connections": str(connections)}) as embedded:
            yield Postgres(embedded.url, embedded)


@contextlib.contextmanager
def visited_postgres(config: Config) -> Iterator[str | None]:
    """Give the URL of the server's PostgreSQL, whether a server runs or not; None if there is no database yet.

    An embedded one that does not run is started for the moment. Raises DataFolderError and EmbeddedError; a configured
    one is not contacted.
    """
    if config.storage.postgres_url:
        yield configured_url(config.storage)
        return
    if not (config.server.data_dir / "postgres").exists():
        yield None
        return
    embedded = EmbeddedPostgres(config.server.data_dir)
    with contextlib.suppress(DataFolderInUseError):  # a server runs, and so does its PostgreSQL
        embedded.start()
    try:
        yield embedded.url
    finally:
        embedded.stop()


def find_shared_account(config: Config) -> str | None:
    """Why the embedded PostgreSQL would run as a user that others share, and what to do; None if it does not.

    PostgreSQL refuses to run as root, and needs a user with a name: as root there is none of our own to give to it.
    """
    if config.storage.postgres_url:
        return None
    account = account_for(config.server.data_dir / "postgres")
    if account.is_ours:
        return None
    return (
        f"The embedded PostgreSQL runs as the user {account.name}, because this server runs as root: other programs of "
        f"{account.name} have full access to the database. Start the server as a user of its own, or set "
        "storage.postgres_url (for tchat commerce, commerce_service.postgres_url)."
    )


def configured_url(storage: StorageSettings) -> str:
    """`postgres_url` with the password put in: not to be shown."""
    return with_password(storage.postgres_url, storage.postgres_password)


def with_password(url: str, secret: Secret) -> str:
    """The URL of a database with the password put in: not to be shown."""
    password = secret.reveal()
    if not password:
        return url
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()
