"""The list of keys that were erased: a file of one folder that only grows, a line for each key.

It is written and synced before a key is overwritten, so a copy of the keys that is restored from an older backup loses
again what is on the list. Lines have one length: what a crash has cut off is seen, and is written again by who repeats.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable
from pathlib import Path

FILE_NAME = "erased.list"
_ID_CHARS = 32
_LINE_BYTES = _ID_CHARS + 1


class ErasedList:
    """Ids of 16 bytes, each as a line in hex."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def read(self) -> set[bytes]:
        """All that is on it; a last line that was cut off is left out. Raises ValueError if it is no such list."""
        if not self._path.exists():
            return set()
        text = self._path.read_bytes()
        lines = [text[at : at + _LINE_BYTES] for at in range(0, len(text) - _LINE_BYTES + 1, _LINE_BYTES)]
        if any(line[-1:] != b"\n" for line in lines):
            raise ValueError(f"{self._path} is damaged")
        return {bytes.fromhex(line.decode("ascii")) for line in lines}

    def append(self, ids: Iterable[bytes]) -> None:
        """Add ids durably, each behind the last whole line."""
        lines = b"".join(each.hex().encode() + b"\n" for each in ids)
        if not lines:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # another process appends, too; closing it unlocks
            whole = os.fstat(descriptor).st_size // _LINE_BYTES * _LINE_BYTES
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
