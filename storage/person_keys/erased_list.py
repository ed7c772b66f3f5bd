"""A list of what was erased, keys or people: a file of one folder that only grows, a line for each.

It is written and synced before a key is overwritten, so a copy of the keys that is restored from an older backup loses
again what is on the list. Lines have one length: what a crash has cut off is seen, and is written again by who repeats.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

FILE_NAME = "erased.list"
PEOPLE_FILE_NAME = "erased-people.list"


class ErasedList:
    """Entries of `entry_bytes`, each as a line in hex."""

    def __init__(self, folder: Path, name: str = FILE_NAME, *, entry_bytes: int = 16) -> None:
        self._path = folder / name
        self._line_bytes = 2 * entry_bytes + 1

    def read(self) -> set[bytes]:
        """All that is on it; a last line that was cut off is left out. Raises ValueError if it is no such list."""
        if not self._path.exists():
            return set()
        text = self._path.read_bytes()
        size = self._line_bytes
        lines = [text[at : at + size] for at in range(0, len(text) - size + 1, size)]
        if any(line[-1:] != b"\n" for line in lines):
            raise ValueError(f"{self._path} is damaged")
        return {bytes.fromhex(line.decode("ascii")) for line in lines}

    def append(self, ids: Iterable[bytes]) -> None:
        """Add entries durably, each behind the last whole line."""
        lines = b"".join(each.hex().encode() + b"\n" for each in ids)
        if not lines:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # another process appends, too; closing it unlocks
            whole = os.fstat(descriptor).st_size // self._line_bytes * self._line_bytes
            os.ftruncate(descriptor, whole)
            os.lseek(descriptor, whole, os.SEEK_SET)
            while lines:
                lines = lines[os.write(descriptor, lines) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _sync_folder(self._path.parent)


def _sync_folder(folder: Path) -> None:
    """The name of a new file is durable with its folder."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
