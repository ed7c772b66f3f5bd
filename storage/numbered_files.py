"""Migrations as files: `0001_core.sql` is applied once, those with smaller numbers first.

Versions are built side by side, so a file may come later than one with a higher number: then it is applied when it
comes. What it changes must not depend on those that may come before or after it. There are no downgrades.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path


class MigrationError(Exception):
    """The schema cannot be brought to this version; the message says why and what to do."""


def list_names(folder: Path) -> list[str]:
    """The names of this version's files, oldest first: "0001_core"."""
    return sorted(path.stem for path in folder.glob("[0-9]*.*"))


def number_of(name: str) -> int:
    """The number that a name begins with."""
    return int(name[:4])


def missing_names(applied: Collection[int], folder: Path) -> list[str]:
    """The names of the files that are still to be applied, also of those that came later than one with a higher number.

    Raises MigrationError if a newer version was here.
    """
    names = {number_of(name): name for name in list_names(folder)}
    if unknown := set(applied) - names.keys():
        raise MigrationError(
            f"The database was migrated to {max(unknown):04} by a newer tchat and this one does not know that: "
            "run the newer version, or restore a backup from before it."
        )
    return [name for number, name in names.items() if number not in applied]
