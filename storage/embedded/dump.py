"""A database as one stream of bytes, and back: PostgreSQL's own `pg_dump` and `pg_restore`, in their custom format.

A dump is one snapshot: it has every transaction that had committed when it began, whole, and no other. It blocks no
write. Restored, a database has other ids of transactions: `storage/postgres/epoch.py` says what follows.
"""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from storage.embedded.install import EmbeddedError, wheel_install

Progress = Callable[[int], None]
"""Gets the number of bytes that were copied since the call before."""

_STEP_BYTES = 1_048_576


def dump(url: str, target: IO[bytes], progress: Progress) -> None:
    """Write the database at `url` to `target`; raises EmbeddedError, and then the target is incomplete."""
    # Ciphertext does not compress, but COPY writes bytes as text, twice as long: the fastest level undoes that.
    command = _command("pg_dump", "--format=custom", "--compress=gzip:1", "--no-owner", "--no-privileges")
    with _started([*command, f"--dbname={url}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        _copy(process.stdout, target, progress)


def load(url: str, source: IO[bytes], progress: Progress) -> None:
    """Put what `dump` wrote into the empty database at `url`: all of it, or nothing and EmbeddedError."""
    command = _command("pg_restore", "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges")
    _feed([*command, f"--dbname={url}"], source, progress)


def check(source: IO[bytes], progress: Progress) -> None:
    """Read what `dump` wrote from its first to its last byte; raises EmbeddedError if `load` could not."""
    _feed(_command("pg_restore", "--file=-"), source, progress)


def _command(program: str, *options: str) -> list[str]:
    return [str(wheel_install() / "bin" / program), *options]


def _feed(command: Sequence[str], source: IO[bytes], progress: Progress) -> None:
    with _started(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin:  # it may have ended, and says why
            _copy(source, process.stdin, progress)


def _copy(source: IO[bytes], target: IO[bytes], progress: Progress) -> None:
    while data := source.read(_STEP_BYTES):
        target.write(data)
        progress(len(data))


@contextlib.contextmanager
def _started(command: Sequence[str], *, stdin: int, stdout: int) -> Iterator[subprocess.Popen[bytes]]:
    """A program that must end well; raises EmbeddedError with the end of what it said."""
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, stdin=stdin, stdout=stdout, stderr=said) as process:  # noqa: S603 - ours
            try:
                yield process
            except BaseException:
                process.kill()
                raise
        if process.returncode != 0:
            said.seek(0)
            last = " | ".join(said.read().decode(errors="replace").strip().splitlines()[-3:])
            raise EmbeddedError(f"{Path(command[0]).name} failed: {last}")
