"""Looks for marks and keys in files, in the memory of processes and in texts, also as base64, in hex and in UTF-16.

A mark is a text with a beginning of its own run, so one search finds all of them. What is compressed or encrypted by
somebody else is not looked into: a page of the database that PostgreSQL has compressed, say.
"""

from __future__ import annotations

import base64
import os
import random
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_TOKEN_CHARS = 14
_CHUNK_BYTES = 16 * 1024 * 1024
_KEY_BYTES_SOUGHT = 24
_PAGE_BYTES = 4096
_ZEROS = bytes(_PAGE_BYTES)
_MAP = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) ([0-9a-f]+) (\S+) (\d+)\s*(.*)")


class Marks:
    """Texts that are found again."""

    def __init__(self, rng: random.Random) -> None:
        self.made = 0
        self._rng = rng
        self._token = "".join(rng.choices(string.ascii_letters + string.digits, k=_TOKEN_CHARS))

    def make(self, length_max: int = 60) -> bytes:
        """A new one, of some length."""
        self.made += 1
        filler = "x" * self._rng.randrange(max(1, length_max - _TOKEN_CHARS - 6))
        return f"{self._token}{self.made:05}{filler}".encode()

    def patterns(self) -> dict[str, bytes]:
        """What to look for, by how it is written."""
        return dict(_written(self._token.encode())) | {
            "utf-16-le": self._token.encode("utf-16-le"),
            "utf-16-be": self._token.encode("utf-16-be"),
        }


def key_patterns(keys: Mapping[str, bytes]) -> dict[str, bytes]:
    """What to look for of secret keys, by their names."""
    return {
        f"{name}, {how}": pattern
        for name, key in keys.items()
        for how, pattern in _written(key[:_KEY_BYTES_SOUGHT], alignments=(0,))
    }


def _written(data: bytes, alignments: Iterable[int] = (0, 1, 2)) -> Iterator[tuple[str, bytes]]:
    yield "raw", data
    yield "hex", data.hex().encode()
    for alignment in alignments:
        # In base64 the characters at both ends also depend on what is beside the text: these are left out.
        encoded = base64.b64encode(b"\0" * alignment + data)
        first, last = (alignment * 8 + 5) // 6, (alignment + len(data)) * 8 // 6
        yield f"base64 at {alignment}", encoded[first:last]
        if (url := encoded[first:last].replace(b"+", b"-").replace(b"/", b"_")) != encoded[first:last]:
            yield f"base64url at {alignment}", url


class Search:
    """Counts what was looked through, and says where something was found."""

    def __init__(self, patterns: Mapping[str, bytes]) -> None:
        self.places = 0
        self.bytes = 0
        self.found: list[str] = []
        self.skipped: list[str] = []
        self._patterns = patterns
        self._overlap = max(len(pattern) for pattern in patterns.values()) - 1

    def through_text(self, place: str, data: bytes) -> None:
        """A text that something printed."""
        self._through(place, [data])

    def through_folder(self, place: str, folder: Path) -> None:
        """All files of a folder, however deep."""
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                self._through(f"{place}: {path.relative_to(folder)}", _chunks_of(path))

    def through_memory(self, place: str, pid: int, seen: set[tuple[str, str, str]]) -> None:
        """What a process may write to, or has made; memory that several share is looked through once (`seen`)."""
        try:
            with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
                for start, end in _regions_of(pid, seen):
                    self._through(place, _read_region(memory.fileno(), start, end))
        except OSError as error:
            self.skipped.append(f"{place}: {error.strerror}")

    def _through(self, place: str, chunks: Iterable[bytes]) -> None:
        self.places += 1
        before = b""
        for chunk in chunks:
            self.bytes += len(chunk)
            data = before + chunk
            for how, pattern in self._patterns.items():
                if pattern in data:
                    self.found.append(f"{place}: {how}")
            before = data[-self._overlap :]


def _chunks_of(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _regions_of(pid: int, seen: set[tuple[str, str, str]]) -> Iterator[tuple[int, int]]:
    """The regions of the memory of a process, without programs and libraries as they are on disk."""
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        match = _MAP.fullmatch(line)
        assert match is not None, line
        start, end, rights, offset, device, inode, path = match.groups()
        of_a_file = path.startswith("/") and "w" not in rights
        if "r" not in rights or of_a_file or path.startswith(("[v", "/dev/nvidia")):
            continue
        if "s" in rights:
            if (device, inode, offset) in seen:
                continue
            seen.add((device, inode, offset))
        yield int(start, 16), int(end, 16)


def _read_region(memory: int, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        try:
            chunk = os.pread(memory, min(_CHUNK_BYTES, end - start), start)
        except OSError:  # a page that nobody has touched, or a guard
            return
        if not chunk:
            return
        yield _without_zeros(chunk)
        start += len(chunk)


def _without_zeros(data: bytes) -> bytes:
    """The pages on which there is something: most of the memory of a process has never been used."""
    return b"".join(page for at in range(0, len(data), _PAGE_BYTES) if (page := data[at : at + _PAGE_BYTES]) != _ZEROS)
