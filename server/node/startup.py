"""Why a server cannot start, or had to end, in a sentence or two for the person who started it."""

import errno
import socket

import asyncpg

from server.config.load import ConfigError
from server.config.settings import Config
from server.node.backup import BackupError
from server.startup_error import StartupError
from storage.embedded.data_folder import DataFolderError
from storage.embedded.install import EmbeddedError
from storage.numbered_files import MigrationError
from storage.postgres.incarnations import DatabaseInUseError
from storage.unavailable import IncarnationEndedError, StorageUnavailableError

_EXPLAIN_THEMSELVES = (
    StartupError,
    ConfigError,
    DataFolderError,
    EmbeddedError,
    MigrationError,
    DatabaseInUseError,
    IncarnationEndedError,
    BackupError,
)
_OF_POSTGRES = (StorageUnavailableError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError)


def explain(error: BaseException, config: Config | None) -> str | None:
    """What went wrong and what to do; None for a bug, whose traceback is shown instead."""
    if isinstance(error, BaseExceptionGroup):
        return next((said for part in error.exceptions if (said := explain(part, config))), None)
    if isinstance(error, _EXPLAIN_THEMSELVES):
        return str(error)
    if config is None:
        return None
    if isinstance(error, OSError) and error.errno in {errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL}:
        return _about_ports(error, config)
    if config.storage.postgres_url and isinstance(error, _OF_POSTGRES):
        return f"PostgreSQL at storage.postgres_url cannot be used ({error}): run `tchat doctor`."
    return None


def _about_ports(error: OSError, config: Config) -> str | None:
    server = config.server
    for key, host, port in (("port", server.host, server.port), ("admin_port", server.admin_host, server.admin_port)):
        why = _why_not_listen(host, port)
        if why is not None:
            return f"Cannot listen on {host} port {port} ({why}): stop what uses it, or set server.{key} to another."
    return f"Cannot listen ({error.strerror}): check server.host and server.port."


def _why_not_listen(host: str, port: int) -> str | None:
    """Try the address once more: the error that came up does not always say which port it was."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error.strerror
    return None
