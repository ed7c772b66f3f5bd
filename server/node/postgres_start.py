"""Which PostgreSQL this node uses, running while it is needed: the embedded one, or the one that is configured."""

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from server.config.settings import Config, StorageSettings
from storage.embedded.cluster import EmbeddedError, EmbeddedPostgres

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
    if another server has it) and EmbeddedError; a configured one is not contacted.
    """
    if config.storage.postgres_url:
        yield Postgres(configured_url(config.storage))
    else:
        with EmbeddedPostgres(config.server.data_dir) as embedded:
            yield Postgres(embedded.url, embedded)


def configured_url(storage: StorageSettings) -> str:
    """`postgres_url` with the password put in: not to be shown."""
    password = storage.postgres_password.reveal()
    if not password:
        return storage.postgres_url
    parts = urlsplit(storage.postgres_url)
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()
