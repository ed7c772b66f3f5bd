"""`tchat reports`: the moderators' key, what was reported, and, with the private key, what it says.

The private key is no part of a server's configuration: moderators keep it, and need it only where they read. To read
they need the database, too.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from nacl.exceptions import CryptoError
from nacl.public import PrivateKey, SealedBox

from protocol.canonical import CanonicalError, from_base64, to_base64
from protocol.ids import to_text
from server.config.settings import Config
from server.node.postgres_start import visited_postgres
from server.startup_error import StartupError
from storage.postgres.pool import open_pool
from storage.postgres.reports import PostgresReports
from storage.reports import Evidence, NumberedReport

KEY_VARIABLE = "TCHAT_MODERATORS_PRIVATE_KEY"
"""The environment variable that may hold the private key."""
REPORTS_PER_PAGE = 100
_PRIVATE_KEY_BYTES = 32
_TIMEOUT_S = 10.0


def make_key(path: Path) -> str:
    """Write a new private key to a file that there is not yet; returns the public key, in base64."""
    key = PrivateKey.generate()
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(to_base64(bytes(key)) + "\n")
    except OSError as error:
        raise StartupError(
            f"The private key cannot be written to {path} ({error.strerror}): name a new file."
        ) from error
    return to_base64(bytes(key.public_key))


def read_key(path: Path | None, environment: Mapping[str, str]) -> PrivateKey:
    """The private key of a file, or else of the environment; raises StartupError."""
    try:
        text = environment.get(KEY_VARIABLE, "") if path is None else path.read_text(encoding="ascii")
        return PrivateKey(from_base64(text.strip(), _PRIVATE_KEY_BYTES))
    except (CanonicalError, OSError, UnicodeDecodeError) as error:
        where = f"in {path}" if path else f"in the environment variable {KEY_VARIABLE}"
        raise StartupError(f"There is no private key of moderators {where}: name its file with --key.") from error


def list_reports(config: Config, after: int) -> list[NumberedReport]:
    """The reports with numbers above `after`, at most `REPORTS_PER_PAGE`; raises StartupError."""
    return _read(config, after, REPORTS_PER_PAGE)


def open_report(config: Config, number: int, key: PrivateKey) -> Evidence:
    """What a report says; raises StartupError."""
    found = _read(config, number - 1, 1)
    if not found or found[0].number != number:
        raise StartupError(f"There is no report {number}: see `tchat reports list`.")
    try:
        return msgspec.json.decode(SealedBox(key).decrypt(found[0].sealed), type=Evidence)
    except CryptoError as error:
        raise StartupError(
            f"Report {number} is encrypted to another key of moderators: open it with that one."
        ) from error


def as_lines(reports: list[NumberedReport]) -> list[str]:
    """For a person: what is not secret of each."""
    return [
        f"{each.number}  {datetime.fromtimestamp(each.at_ms / 1000, UTC):%Y-%m-%d %H:%M} UTC  "
        f"dialog {to_text(each.dialog)} number {each.seq}  by {to_text(each.author)}  "
        f"reported by {to_text(each.reporter)}"
        for each in reports
    ]


def as_text(evidence: Evidence) -> str:
    """For a person: all that a report says. What might do something to their screen is written as in Python."""
    fields = msgspec.to_builtins(evidence) | {"content": _decode(evidence.content)}
    return "\n".join(f"{name}: {value!r}" for name, value in fields.items())


def _decode(content: bytes) -> str | bytes:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content


def _read(config: Config, after: int, limit: int) -> list[NumberedReport]:
    async def read(url: str) -> list[NumberedReport]:
        pool = await open_pool(url, size=1, statement_timeout_s=_TIMEOUT_S)
        try:
            return await PostgresReports(pool).list(after=after, limit=limit)
        finally:
            await pool.close()

    with visited_postgres(config) as url:
        if url is None:
            raise StartupError(f"There is no database in {config.server.data_dir} yet.")
        return asyncio.run(read(url))
