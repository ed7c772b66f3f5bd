"""Migrations as files: `0001_core.sql` is applied once, after those with smaller numbers. There are no downgrades."""

from __future__ import annotations

from pathlib import Path


class MigrationError(Exception):
    """The schema cannot be brought to this version; the message says why and what to do."""


def list_names(folder: Path) -> list[str]:
    """The names of this version's files, oldest first: "0001_core"."""
    return sorted(path.stem for path in folder.glob("[0-9]*.*"))


def number_of(name: str) -> int:
    """The number that a name begins with."""
    return int(name[:4])


def names_after(number: int, folder: Path) -> list[str]:
    """The names of the files that are still to be applied. Raises MigrationError if a newer version was here."""
    names = list_names(folder)
    newest = number_of(names[-1])
    if number > newest:
        raise MigrationError(
            f"The database was migrated to {number:04} by a newer tchat and this one knows {newest:04}: "
            "run the newer version, or restore a backup from before it."
        )
    return [name for name in names if number_of(name) > number]
