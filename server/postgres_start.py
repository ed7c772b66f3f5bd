"""Which PostgreSQL this node uses, running while it is needed: the embedded one, or the one that is configured."""

import contextlib
from collections.abc import Iterator
from urllib.parse import quote, urlsplit

from server.config import Config, StorageSettings
from storage.embedded import EmbeddedPostgres


@contextlib.contextmanager
def running_postgres(config: Config) -> Iterator[str]:
    """Give the database's URL; the embedded PostgreSQL is started before and stopped after.

    Blocks for the start (milliseconds; most of a second the first time). Raises DataFolderError (DataFolderInUseError
    if another server has it) and EmbeddedError; a configured one is not contacted.
    """
    if config.storage.postgres_url:
        yield configured_url(config.storage)
    else:
        with EmbeddedPostgres(config.server.data_dir) as embedded:
            yield embedded.url


def configured_url(storage: StorageSettings) -> str:
    """`postgres_url` with the password put in: not to be shown."""
    password = storage.postgres_password.reveal()
    if not password:
        return storage.postgres_url
    parts = urlsplit(storage.postgres_url)
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}").geturl()
